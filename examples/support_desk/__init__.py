"""Two agents of OpenAI's Agents SDK whose conversation and traces Penstock keeps."""
