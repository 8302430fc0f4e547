/** A put if absent was refused after an earlier try of it whose answer was lost: is what is there ours? */
import type { ObjectStat } from './destination.ts'

/** The object, if it is this very body, byte for byte. Its bytes are asked for only where its length agrees. */
export async function ownObject(
  body: Uint8Array,
  stat: () => Promise<ObjectStat | undefined>,
  read: () => Promise<Uint8Array | undefined>,
): Promise<ObjectStat | undefined> {
  const there = await stat()
  const back = there?.bytes === body.length ? await read() : undefined
  return back && Buffer.compare(back, body) === 0 ? there : undefined
}
