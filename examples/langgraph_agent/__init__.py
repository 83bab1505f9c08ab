"""An agent of LangGraph whose checkpoints Penstock keeps."""
