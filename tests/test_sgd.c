/* SGD against 100 steps of torch.optim.SGD, each of its terms in turn, through a tape of its own
 * gradients. (What every optimizer does alike: test_optimizer.c.) */
#include "tests/reference/bowl.h"

AFTER(after_sgd, torc_sgd, .lr = 0.05f)
AFTER(after_sgd_momentum, torc_sgd, .lr = 0.02f, .momentum = 0.9f)
AFTER(after_sgd_nesterov, torc_sgd, .lr = 0.02f, .momentum = 0.9f, .nesterov = true)
AFTER(after_sgd_decay, torc_sgd, .lr = 0.05f, .weight_decay = 0.1f)
AFTER(after_sgd_dampening, torc_sgd, .lr = 0.05f, .momentum = 0.8f, .dampening = 0.5f,
      .weight_decay = 0.01f)

TEST_DIES(nesterov_with_dampening, 1, "nesterov needs a momentum and no dampening")
{
    torc_sgd(bowl_new(), .lr = 0.1f, .momentum = 0.9f, .dampening = 0.1f, .nesterov = true);
}

TEST_DIES(momentum_of_one, 1, "expected momentum from 0 to below 1, found 1")
{
    torc_sgd(bowl_new(), .lr = 0.1f, .momentum = 1);
}
