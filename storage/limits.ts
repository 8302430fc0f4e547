/** Largest object that `put` writes and `read` reads whole, in bytes. */
export const maxSmallBytes = 16 * 1024 * 1024
