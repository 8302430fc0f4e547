/** Advisory locks of ours: the first of their two numbers. Those of a server's other users are theirs. */
export const lockSpace = 0x486f6c64
