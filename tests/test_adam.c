/* Adam and AdamW against 100 steps of torch.optim's, with the usual options and with others,
 * through a tape of their own gradients. (What every optimizer does alike: test_optimizer.c.) */
#include "tests/reference/bowl.h"

AFTER(after_adam, torc_adam, .lr = 0.01f)
AFTER(after_adam_decay, torc_adam, .lr = 0.01f, .beta1 = 0.8f, .beta2 = 0.99f, .eps = 1e-4f,
      .weight_decay = 0.1f)
AFTER(after_adamw, torc_adamw, .lr = 0.01f)
AFTER(after_adamw_decay, torc_adamw, .lr = 0.01f, .beta1 = 0.8f, .beta2 = 0.99f,
      .weight_decay = 0.5f)

/* Without averages every step is lr long, whatever the gradient's size: a bowl's walls are steep.
 */
TEST(betas_of_zero_take_steps_of_one_length)
{
    torc_module *net = bowl_new();
    torc_tensor *a = torc_parameter_named(net, "a");
    torc_optimizer *opt = torc_adam(net, .lr = 0.125f, .beta1 = TORC_ZERO, .beta2 = TORC_ZERO);
    double start = torc_item(a); /* -30 / 16, left of its centre */
    for (int i = 1; i <= 4; i++) {
        torc_backward(torc_forward(net, torc_zeros(TORC_SCALAR)));
        torc_step(opt);
        CHECK_NEAR(torc_item(a), start + 0.125 * i, 1e-6);
    }
}
