DROP FUNCTION bus.resume_offset(text, text);
