"""What a picture file needs on its way to upright sRGB pixels: orientation, colour profile, transparency, JPEG."""
