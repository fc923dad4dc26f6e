"""``mesh bench gateway``: ours beside LiteLLM, Portkey, TensorZero and vllm-router, on one core each."""
