ByJ€f"c†('¤£C˜¦‹*Fo
f (FÀ