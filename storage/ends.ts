/** Counts bytes on their way and keeps their first and last ones: what the format's header and trailer are looked for in. */

const headBytes = 64
const tailBytes = 64 << 10

export interface Ends {
  /** Copies what it keeps. */
  add(piece: Buffer): void
  bytes: number
  /** The first ≤ 64. */
  head: Buffer
  /** The last ≤ 64 KiB. */
  tail: Buffer
}

export function newEnds(): Ends {
  const ends: Ends = {
    bytes: 0,
    head: Buffer.alloc(0),
    tail: Buffer.alloc(0),
    add(piece) {
      if (ends.head.length < headBytes) {
        ends.head = Buffer.concat([ends.head, piece.subarray(0, headBytes - ends.head.length)])
      }
      ends.bytes += piece.length
      const joined = piece.length < tailBytes ? Buffer.concat([ends.tail, piece]) : piece
      ends.tail = Buffer.from(joined.subarray(Math.max(0, joined.length - tailBytes)))
    },
  }
  return ends
}
