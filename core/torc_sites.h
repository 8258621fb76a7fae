/*
 * torc_sites -- the macros behind torc.h: each function of the API under its own name, with the
 * place of the call filled in and the optional arguments gathered into their struct. Included by
 * torc.h; nothing to read here.
 */
#ifndef TORC_SITES_H
#define TORC_SITES_H

#define torc_init(...) torc_init(TORC_HERE, __VA_ARGS__)
#define torc_finalize() torc_finalize(TORC_HERE)
#define torc_profile_start() torc_profile_start(TORC_HERE)
#define torc_profile_stop() torc_profile_stop(TORC_HERE)
#define torc_set_threads(...) torc_set_threads(TORC_HERE, __VA_ARGS__)
#define torc_should_stop() torc_should_stop(TORC_HERE)
#define torc_barrier() torc_barrier(TORC_HERE)
#define torc_sum_over_ranks(...) torc_sum_over_ranks(TORC_HERE, __VA_ARGS__)
#define torc_max_over_ranks(...) torc_max_over_ranks(TORC_HERE, __VA_ARGS__)
#define torc_tensor_new(shape, ...) \
    torc_tensor_new(TORC_HERE, shape, TORC_OPTIONS_(torc_tensor_options, __VA_ARGS__))
#define torc_tensor_free(...) torc_tensor_free(TORC_HERE, __VA_ARGS__)
#define torc_keep(...) torc_keep(TORC_HERE, __VA_ARGS__)
#define torc_zeros(shape, ...) \
    torc_zeros(TORC_HERE, shape, TORC_OPTIONS_(torc_create_options, __VA_ARGS__))
#define torc_ones(shape, ...) \
    torc_ones(TORC_HERE, shape, TORC_OPTIONS_(torc_create_options, __VA_ARGS__))
#define torc_full(shape, value, ...) \
    torc_full(TORC_HERE, shape, value, TORC_OPTIONS_(torc_create_options, __VA_ARGS__))
#define torc_arange(n, ...) \
    torc_arange(TORC_HERE, n, TORC_OPTIONS_(torc_create_options, __VA_ARGS__))
#define torc_rand(shape, ...) \
    torc_rand(TORC_HERE, shape, TORC_OPTIONS_(torc_create_options, __VA_ARGS__))
#define torc_randn(shape, ...) \
    torc_randn(TORC_HERE, shape, TORC_OPTIONS_(torc_create_options, __VA_ARGS__))
#define torc_ndim(...) torc_ndim(TORC_HERE, __VA_ARGS__)
#define torc_size(...) torc_size(TORC_HERE, __VA_ARGS__)
#define torc_numel(...) torc_numel(TORC_HERE, __VA_ARGS__)
#define torc_shape_of(...) torc_shape_of(TORC_HERE, __VA_ARGS__)
#define torc_dtype_of(...) torc_dtype_of(TORC_HERE, __VA_ARGS__)
#define torc_item(...) torc_item(TORC_HERE, __VA_ARGS__)
#define torc_read(...) torc_read(TORC_HERE, __VA_ARGS__)
#define torc_write(...) torc_write(TORC_HERE, __VA_ARGS__)
#define torc_data(...) torc_data(TORC_HERE, __VA_ARGS__)
#define torc_print(...) torc_print(TORC_HERE, __VA_ARGS__)
#define torc_format(...) torc_format(TORC_HERE, __VA_ARGS__)
#define torc_backward(...) torc_backward(TORC_HERE, __VA_ARGS__)
#define torc_grad(...) torc_grad(TORC_HERE, __VA_ARGS__)
#define torc_zero_grad_of(...) torc_zero_grad_of(TORC_HERE, __VA_ARGS__)
#define torc_detach(...) torc_detach(TORC_HERE, __VA_ARGS__)
#define torc_requires_grad(...) torc_requires_grad(TORC_HERE, __VA_ARGS__)
#define torc_set_requires_grad(...) torc_set_requires_grad(TORC_HERE, __VA_ARGS__)
#define torc_tape_clear() torc_tape_clear(TORC_HERE)
#define torc_set_matmul_precision(...) torc_set_matmul_precision(TORC_HERE, __VA_ARGS__)
#define torc_recompute(...) torc_recompute(TORC_HERE, __VA_ARGS__)
#define torc_gradcheck(...) torc_gradcheck(TORC_HERE, __VA_ARGS__)
#define torc_set_weight(...) torc_set_weight(TORC_HERE, __VA_ARGS__)
#define torc_weight(...) torc_weight(TORC_HERE, __VA_ARGS__)
#define torc_mean_over_ranks(...) torc_mean_over_ranks(TORC_HERE, __VA_ARGS__)
#define torc_add(...) torc_add(TORC_HERE, __VA_ARGS__)
#define torc_sub(...) torc_sub(TORC_HERE, __VA_ARGS__)
#define torc_mul(...) torc_mul(TORC_HERE, __VA_ARGS__)
#define torc_div(...) torc_div(TORC_HERE, __VA_ARGS__)
#define torc_pow(...) torc_pow(TORC_HERE, __VA_ARGS__)
#define torc_maximum(...) torc_maximum(TORC_HERE, __VA_ARGS__)
#define torc_minimum(...) torc_minimum(TORC_HERE, __VA_ARGS__)
#define torc_neg(...) torc_neg(TORC_HERE, __VA_ARGS__)
#define torc_abs(...) torc_abs(TORC_HERE, __VA_ARGS__)
#define torc_exp(...) torc_exp(TORC_HERE, __VA_ARGS__)
#define torc_log(...) torc_log(TORC_HERE, __VA_ARGS__)
#define torc_sqrt(...) torc_sqrt(TORC_HERE, __VA_ARGS__)
#define torc_rsqrt(...) torc_rsqrt(TORC_HERE, __VA_ARGS__)
#define torc_tanh(...) torc_tanh(TORC_HERE, __VA_ARGS__)
#define torc_sigmoid(...) torc_sigmoid(TORC_HERE, __VA_ARGS__)
#define torc_relu(...) torc_relu(TORC_HERE, __VA_ARGS__)
#define torc_gelu(...) torc_gelu(TORC_HERE, __VA_ARGS__)
#define torc_gelu_tanh(...) torc_gelu_tanh(TORC_HERE, __VA_ARGS__)
#define torc_silu(...) torc_silu(TORC_HERE, __VA_ARGS__)
#define torc_softplus(...) torc_softplus(TORC_HERE, __VA_ARGS__)
#define torc_add_scalar(...) torc_add_scalar(TORC_HERE, __VA_ARGS__)
#define torc_mul_scalar(...) torc_mul_scalar(TORC_HERE, __VA_ARGS__)
#define torc_pow_scalar(...) torc_pow_scalar(TORC_HERE, __VA_ARGS__)
#define torc_clamp(...) torc_clamp(TORC_HERE, __VA_ARGS__)
#define torc_where(...) torc_where(TORC_HERE, __VA_ARGS__)
#define torc_eq(...) torc_eq(TORC_HERE, __VA_ARGS__)
#define torc_ne(...) torc_ne(TORC_HERE, __VA_ARGS__)
#define torc_lt(...) torc_lt(TORC_HERE, __VA_ARGS__)
#define torc_le(...) torc_le(TORC_HERE, __VA_ARGS__)
#define torc_gt(...) torc_gt(TORC_HERE, __VA_ARGS__)
#define torc_ge(...) torc_ge(TORC_HERE, __VA_ARGS__)
#define torc_isnan(...) torc_isnan(TORC_HERE, __VA_ARGS__)
#define torc_isfinite(...) torc_isfinite(TORC_HERE, __VA_ARGS__)
#define torc_all_finite(...) torc_all_finite(TORC_HERE, __VA_ARGS__)
#define torc_to(...) torc_to(TORC_HERE, __VA_ARGS__)
#define torc_sum(x, ...) torc_sum(TORC_HERE, x, TORC_OPTIONS_(torc_reduce_options, __VA_ARGS__))
#define torc_mean(x, ...) torc_mean(TORC_HERE, x, TORC_OPTIONS_(torc_reduce_options, __VA_ARGS__))
#define torc_max(x, ...) torc_max(TORC_HERE, x, TORC_OPTIONS_(torc_reduce_options, __VA_ARGS__))
#define torc_min(x, ...) torc_min(TORC_HERE, x, TORC_OPTIONS_(torc_reduce_options, __VA_ARGS__))
#define torc_var(x, ...) torc_var(TORC_HERE, x, TORC_OPTIONS_(torc_reduce_options, __VA_ARGS__))
#define torc_argmax(x, ...) \
    torc_argmax(TORC_HERE, x, TORC_OPTIONS_(torc_reduce_options, __VA_ARGS__))
#define torc_logsumexp(x, ...) \
    torc_logsumexp(TORC_HERE, x, TORC_OPTIONS_(torc_reduce_options, __VA_ARGS__))
#define torc_softmax(...) torc_softmax(TORC_HERE, __VA_ARGS__)
#define torc_log_softmax(...) torc_log_softmax(TORC_HERE, __VA_ARGS__)
#define torc_reshape(...) torc_reshape(TORC_HERE, __VA_ARGS__)
#define torc_flatten(...) torc_flatten(TORC_HERE, __VA_ARGS__)
#define torc_permute(...) torc_permute(TORC_HERE, __VA_ARGS__)
#define torc_transpose(...) torc_transpose(TORC_HERE, __VA_ARGS__)
#define torc_squeeze(...) torc_squeeze(TORC_HERE, __VA_ARGS__)
#define torc_unsqueeze(...) torc_unsqueeze(TORC_HERE, __VA_ARGS__)
#define torc_expand(...) torc_expand(TORC_HERE, __VA_ARGS__)
#define torc_slice(...) torc_slice(TORC_HERE, __VA_ARGS__)
#define torc_contiguous(...) torc_contiguous(TORC_HERE, __VA_ARGS__)
#define torc_split(...) torc_split(TORC_HERE, __VA_ARGS__)
#define torc_cat(dim, ...) \
    torc_cat(TORC_HERE, dim, TORC_COUNT_(torc_tensor *, __VA_ARGS__), \
             TORC_ARRAY_(torc_tensor *, __VA_ARGS__))
#define torc_stack(dim, ...) \
    torc_stack(TORC_HERE, dim, TORC_COUNT_(torc_tensor *, __VA_ARGS__), \
               TORC_ARRAY_(torc_tensor *, __VA_ARGS__))
#define torc_flip(...) torc_flip(TORC_HERE, __VA_ARGS__)
#define torc_gather(...) torc_gather(TORC_HERE, __VA_ARGS__)
#define torc_matmul(...) torc_matmul(TORC_HERE, __VA_ARGS__)
#define torc_linear_op(...) torc_linear_op(TORC_HERE, __VA_ARGS__)
#define torc_conv2d_op(x, weight, bias, ...) \
    torc_conv2d_op(TORC_HERE, x, weight, bias, TORC_OPTIONS_(torc_conv2d_options, __VA_ARGS__))
#define torc_max_pool2d_op(x, kernel, ...) \
    torc_max_pool2d_op(TORC_HERE, x, kernel, TORC_OPTIONS_(torc_pool_options, __VA_ARGS__))
#define torc_avg_pool2d_op(x, kernel, ...) \
    torc_avg_pool2d_op(TORC_HERE, x, kernel, TORC_OPTIONS_(torc_pool_options, __VA_ARGS__))
#define torc_layer_norm_op(...) torc_layer_norm_op(TORC_HERE, __VA_ARGS__)
#define torc_batch_norm_op(...) torc_batch_norm_op(TORC_HERE, __VA_ARGS__)
#define torc_sync_batch_norm_op(...) torc_sync_batch_norm_op(TORC_HERE, __VA_ARGS__)
#define torc_embedding_op(...) torc_embedding_op(TORC_HERE, __VA_ARGS__)
#define torc_dropout_op(...) torc_dropout_op(TORC_HERE, __VA_ARGS__)
#define torc_scaled_dot_product_attention(q, k, v, ...) \
    torc_scaled_dot_product_attention(TORC_HERE, q, k, v, \
                                      TORC_OPTIONS_(torc_attention_options, __VA_ARGS__))
#define torc_cross_entropy(logits, target, ...) \
    torc_cross_entropy(TORC_HERE, logits, target, \
                       TORC_OPTIONS_(torc_cross_entropy_options, __VA_ARGS__))
#define torc_mse_loss(...) torc_mse_loss(TORC_HERE, __VA_ARGS__)
#define torc_l1_loss(...) torc_l1_loss(TORC_HERE, __VA_ARGS__)
#define torc_bce_with_logits(...) torc_bce_with_logits(TORC_HERE, __VA_ARGS__)
#define torc_forward(...) torc_forward(TORC_HERE, __VA_ARGS__)
#define torc_summary(...) torc_summary(TORC_HERE, __VA_ARGS__)
#define torc_recompute_layer(...) torc_recompute_layer(TORC_HERE, __VA_ARGS__)
#define torc_linear(in, out, ...) \
    torc_linear(TORC_HERE, in, out, TORC_OPTIONS_(torc_linear_options, __VA_ARGS__))
#define torc_conv2d(in, out, kernel, ...) \
    torc_conv2d(TORC_HERE, in, out, kernel, TORC_OPTIONS_(torc_conv2d_options, __VA_ARGS__))
#define torc_max_pool2d(kernel, ...) \
    torc_max_pool2d(TORC_HERE, kernel, TORC_OPTIONS_(torc_pool_options, __VA_ARGS__))
#define torc_avg_pool2d(kernel, ...) \
    torc_avg_pool2d(TORC_HERE, kernel, TORC_OPTIONS_(torc_pool_options, __VA_ARGS__))
#define torc_flatten_layer() torc_flatten_layer(TORC_HERE)
#define torc_relu_layer() torc_relu_layer(TORC_HERE)
#define torc_gelu_layer() torc_gelu_layer(TORC_HERE)
#define torc_gelu_tanh_layer() torc_gelu_tanh_layer(TORC_HERE)
#define torc_layer_norm(width, ...) \
    torc_layer_norm(TORC_HERE, width, TORC_OPTIONS_(torc_norm_options, __VA_ARGS__))
#define torc_batch_norm2d(channels, ...) \
    torc_batch_norm2d(TORC_HERE, channels, TORC_OPTIONS_(torc_norm_options, __VA_ARGS__))
#define torc_convert_sync_batch_norm(...) torc_convert_sync_batch_norm(TORC_HERE, __VA_ARGS__)
#define torc_embedding(...) torc_embedding(TORC_HERE, __VA_ARGS__)
#define torc_dropout(...) torc_dropout(TORC_HERE, __VA_ARGS__)
#define torc_sequential(...) \
    torc_sequential(TORC_HERE, TORC_COUNT_(torc_module *, __VA_ARGS__), \
                    TORC_ARRAY_(torc_module *, __VA_ARGS__))
#define torc_causal_self_attention(width, heads, ...) \
    torc_causal_self_attention(TORC_HERE, width, heads, \
                               TORC_OPTIONS_(torc_attention_layer_options, __VA_ARGS__))
#define torc_transformer_block(width, heads, ...) \
    torc_transformer_block(TORC_HERE, width, heads, \
                           TORC_OPTIONS_(torc_attention_layer_options, __VA_ARGS__))
#define torc_module_new(...) torc_module_new(TORC_HERE, __VA_ARGS__)
#define torc_parameter(...) torc_parameter(TORC_HERE, __VA_ARGS__)
#define torc_buffer(...) torc_buffer(TORC_HERE, __VA_ARGS__)
#define torc_child(...) torc_child(TORC_HERE, __VA_ARGS__)
#define torc_share_parameter(...) torc_share_parameter(TORC_HERE, __VA_ARGS__)
#define torc_parameter_at(...) torc_parameter_at(TORC_HERE, __VA_ARGS__)
#define torc_parameter_named(...) torc_parameter_named(TORC_HERE, __VA_ARGS__)
#define torc_init_normal(...) torc_init_normal(TORC_HERE, __VA_ARGS__)
#define torc_init_uniform(...) torc_init_uniform(TORC_HERE, __VA_ARGS__)
#define torc_init_constant(...) torc_init_constant(TORC_HERE, __VA_ARGS__)
#define torc_ddp(net, ...) torc_ddp(TORC_HERE, net, TORC_OPTIONS_(torc_ddp_options, __VA_ARGS__))
#define torc_ddp_mean(...) torc_ddp_mean(TORC_HERE, __VA_ARGS__)
#define torc_no_sync_enter(...) torc_no_sync_enter(TORC_HERE, __VA_ARGS__)
#define torc_ddp_statistics(...) torc_ddp_statistics(TORC_HERE, __VA_ARGS__)
#define torc_replicas_agree(...) torc_replicas_agree(TORC_HERE, __VA_ARGS__)
#define torc_ddp_plan(...) torc_ddp_plan(TORC_HERE, __VA_ARGS__)
#define torc_sgd(net, ...) torc_sgd(TORC_HERE, net, TORC_OPTIONS_(torc_sgd_options, __VA_ARGS__))
#define torc_adam(net, ...) torc_adam(TORC_HERE, net, TORC_OPTIONS_(torc_adam_options, __VA_ARGS__))
#define torc_adamw(net, ...) \
    torc_adamw(TORC_HERE, net, TORC_OPTIONS_(torc_adam_options, __VA_ARGS__))
#define torc_steps(...) torc_steps(TORC_HERE, __VA_ARGS__)
#define torc_step(...) torc_step(TORC_HERE, __VA_ARGS__)
#define torc_clip_grad_norm(...) torc_clip_grad_norm(TORC_HERE, __VA_ARGS__)
#define torc_grad_norm(...) torc_grad_norm(TORC_HERE, __VA_ARGS__)
#define torc_set_lr(...) torc_set_lr(TORC_HERE, __VA_ARGS__)
#define torc_set_loss_scale(...) \
    torc_set_loss_scale(TORC_HERE, TORC_OPTIONS_(torc_loss_scale_options, __VA_ARGS__))
#define torc_mnist(...) torc_mnist(TORC_HERE, __VA_ARGS__)
#define torc_idx(...) torc_idx(TORC_HERE, __VA_ARGS__)
#define torc_text(path, ...) \
    torc_text(TORC_HERE, path, TORC_OPTIONS_(torc_text_options, __VA_ARGS__))
#define torc_text_vocabulary(...) torc_text_vocabulary(TORC_HERE, __VA_ARGS__)
#define torc_text_encode(...) torc_text_encode(TORC_HERE, __VA_ARGS__)
#define torc_text_decode(...) torc_text_decode(TORC_HERE, __VA_ARGS__)
#define torc_arrays(...) torc_arrays(TORC_HERE, __VA_ARGS__)
#define torc_subset(...) torc_subset(TORC_HERE, __VA_ARGS__)
#define torc_load_npy(...) torc_load_npy(TORC_HERE, __VA_ARGS__)
#define torc_loader_new(data, ...) \
    torc_loader_new(TORC_HERE, data, TORC_OPTIONS_(torc_loader_options, __VA_ARGS__))
#define torc_loader_next(...) torc_loader_next(TORC_HERE, __VA_ARGS__)
#define torc_loader_seek(...) torc_loader_seek(TORC_HERE, __VA_ARGS__)
#define torc_save(...) torc_save(TORC_HERE, __VA_ARGS__)
#define torc_load(...) torc_load(TORC_HERE, __VA_ARGS__)
#define torc_checkpoint_save(net, dir, ...) \
    torc_checkpoint_save(TORC_HERE, net, dir, TORC_OPTIONS_(torc_checkpoint_options, __VA_ARGS__))
#define torc_checkpoint_load(net, dir, ...) \
    torc_checkpoint_load(TORC_HERE, net, dir, TORC_OPTIONS_(torc_checkpoint_options, __VA_ARGS__))
#define torc_checkpoint_flush() torc_checkpoint_flush(TORC_HERE)

#endif
