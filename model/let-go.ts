/** Smaller ones are no trouble, and the collector takes many at once. */
const leastBytes = 16 * 1024

/**
 * Gives a large buffer's memory back at once, instead of leaving it to the garbage collector: that one counts what lies
 * outside its heap, and a few hundred megabytes on their way through make it look at the whole heap dozens of times.
 * Whoever uses the buffer afterwards gets an error, not other bytes.
 */
export function letGo(buffer: Uint8Array): void {
  const memory = buffer.buffer
  // A piece of something larger (Node's pool, another's frame) is not ours to give back.
  if (!(memory instanceof ArrayBuffer) || memory.byteLength !== buffer.byteLength) return
  if (memory.byteLength >= leastBytes) memory.transfer(0)
}

/** As `letGo`, of the memory that this is the only piece of: what Node's zlib gives in one piece has room left behind it. */
export function letGoWhole(piece: Uint8Array): void {
  if (piece.buffer.byteLength > Buffer.poolSize) letGo(new Uint8Array(piece.buffer))
}
