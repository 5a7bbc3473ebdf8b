"""What our trainer passes to an estimator and to verl's KL controller."""

from reinforcepp_verl.integration.batch_context import PaddingAwareKL, session_index


def test_sessions_come_from_verls_row_keys():
    keys = ["a-1_0_0", "a-1_0_1", "a-1_1_0", "b_0_0", "a-1_0_2", "pad7_0_0", "pad7_1_0"]
    index = session_index(keys).tolist()
    assert index[0] == index[1] == index[4]
    assert len(set(index)) == 5


def test_padding_rows_do_not_affect_the_kl_controller():
    from verl.trainer.ppo.core_algos import AdaptiveKLController

    alone, diluted = (AdaptiveKLController(init_kl_coef=0.1, target_kl=0.2, horizon=100) for _ in range(2))
    alone.update(current_kl=0.3, n_steps=2)
    wrapped = PaddingAwareKL(diluted)
    wrapped.real_rows = 2
    wrapped.update(current_kl=0.15, n_steps=4)  # two answers at 0.3 and two padding rows at 0
    assert wrapped.value == alone.value != 0.1
    wrapped.real_rows = 0
    wrapped.update(current_kl=0.0, n_steps=4)
    assert wrapped.value == alone.value
