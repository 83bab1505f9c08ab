"""An agent of Pydantic AI whose spans Penstock keeps."""
