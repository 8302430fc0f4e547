/** Finding marks in streams of bytes, without copying them. */

/** Drops everything up to and including the mark; what was dropped is told, up to a few kilobytes. */
export function startFilter(mark: string, told: (text: string) => void, found: () => void) {
  const wanted = Buffer.from(mark, 'latin1')
  let held: Buffer | undefined = Buffer.alloc(0)
  let toldBytes = 0
  const tell = (bytes: Buffer) => {
    const room = Math.max(0, 4096 - toldBytes)
    toldBytes += bytes.length
    if (room > 0 && bytes.length > 0) told(bytes.subarray(0, room).toString('utf8'))
  }
  return {
    take(chunk: Buffer): Buffer {
      if (held === undefined) return chunk
      const all: Buffer = Buffer.concat([held, chunk])
      const at = all.indexOf(wanted)
      if (at === -1) {
        // All but what may be the beginning of the mark is noise.
        const keep = Math.min(all.length, wanted.length - 1)
        tell(all.subarray(0, all.length - keep))
        held = all.subarray(all.length - keep)
        return all.subarray(all.length)
      }
      held = undefined
      found()
      return all.subarray(at + wanted.length)
    },
    /** The mark never came. */
    end() {
      if (held) tell(held)
      if (held) held = Buffer.alloc(0)
    },
  }
}

/** Hands on everything up to the mark. Its beginning may be the end of a chunk. */
export function endFilter(mark: string | undefined) {
  if (mark === undefined) return (chunk: Buffer) => ({ bytes: chunk, ended: false })
  const wanted = Buffer.from(mark, 'latin1')
  const first = wanted[0] ?? 0
  const none = Buffer.alloc(0)
  let held = none
  return (chunk: Buffer): { bytes: Buffer; ended: boolean } => {
    const all = held.length === 0 ? chunk : Buffer.concat([held, chunk])
    const at = all.indexOf(wanted)
    if (at !== -1) return { bytes: all.subarray(0, at), ended: true }
    let end = all.indexOf(first, Math.max(0, all.length - wanted.length + 1))
    while (end !== -1 && !wanted.subarray(0, all.length - end).equals(all.subarray(end))) {
      end = all.indexOf(first, end + 1)
    }
    if (end === -1) {
      held = none
      return { bytes: all, ended: false }
    }
    held = Buffer.from(all.subarray(end))
    return { bytes: all.subarray(0, end), ended: false }
  }
}
