/**
 * Memory for log files, used again: a segment has 16 MiB, which the machine would have to find and empty each time, and which make
 * Node's garbage collector look for more. A piece belongs to one act from when it is lent until that act has ended, well or not.
 */
import { letGo } from '../../model/let-go.ts'

export interface LogMemory {
  /** Lends so many bytes, with whatever is in them. Once `act` has settled, nobody may look at them any more. */
  lend<T>(bytes: number, act: (piece: Buffer) => Promise<T>): Promise<T>
}

/** Smaller ones are no trouble. */
const leastBytes = 64 << 10
const maxIdleBytes = 256 << 20

/** What nobody has asked for in so long is given back to the machine. */
export function logMemory(keptMs = 10_000): LogMemory {
  const idle = new Set<Buffer>()
  let timer: NodeJS.Timeout | undefined

  const drop = (piece: Buffer) => {
    idle.delete(piece)
    letGo(piece)
  }
  const taken = (bytes: number): Buffer => {
    for (const piece of idle) {
      // A server has segments of one size.
      if (piece.length !== bytes) drop(piece)
      else if (idle.delete(piece)) return piece
    }
    return Buffer.allocUnsafeSlow(bytes)
  }
  const back = (piece: Buffer) => {
    if ((idle.size + 1) * piece.length > maxIdleBytes) return letGo(piece)
    idle.add(piece)
    clearTimeout(timer)
    timer = setTimeout(() => idle.forEach(drop), keptMs).unref()
  }
  return {
    async lend(bytes, act) {
      if (bytes < leastBytes) return await act(Buffer.alloc(bytes))
      const piece = taken(bytes)
      try {
        return await act(piece)
      } finally {
        back(piece)
      }
    },
  }
}
