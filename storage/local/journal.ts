/**
 * Which parts of a local upload are there. One JSON line when a part's writing begins and one when it ended: a part
 * counts if the last line about it says that it ended. A line that was cut by a crash is no line.
 *
 * Lines reach the disk in their own time, as the parts do, so after a power cut a line may speak of bytes that were lost.
 * Each therefore names the boot it was written under; parts of another boot are read and hashed before they count.
 */
import { createHash, randomUUID } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { appendFile, type FileHandle, readFile } from 'node:fs/promises'
import { z } from 'zod'

const lineSchema = z.union([
  // With a tag: the same bytes that already lie there under it are written once more, at most.
  z.object({ begin: z.int(), tag: z.string().optional() }),
  z.object({
    number: z.int(),
    bytes: z.int(),
    offset: z.int(),
    tag: z.string(),
    sha256: z.string().optional(),
    boot: z.string(),
  }),
])

export interface JournaledPart {
  number: number
  bytes: number
  offset: number
  /** Names this writing of the part. */
  tag: string
  sha256?: string | undefined
  /** Written since this machine started: what was written is what is read. */
  thisBoot: boolean
}

/** Where the system has no such id, what another process wrote is read again on resuming. */
const bootId: string = (() => {
  try {
    return readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim()
  } catch {
    return randomUUID()
  }
})()

/** Begins with a line feed, so that a line which a crash cut short does not spoil the next one. */
const append = (path: string, line: object): Promise<void> => appendFile(path, `\n${JSON.stringify(line)}\n`)

export const journalBegin = (path: string, number: number): Promise<void> => append(path, { begin: number })

export const journalEnd = (path: string, part: Omit<JournaledPart, 'thisBoot'>): Promise<void> =>
  append(path, { ...part, boot: bootId })

export const readJournal = async (path: string): Promise<JournaledPart[]> =>
  parseJournal(await readFile(path, 'utf8'), bootId)

/** `boot`: of the machine that the file lies on. */
export function parseJournal(text: string, boot: string): JournaledPart[] {
  const parts = new Map<number, JournaledPart>()
  for (const line of text.split('\n').slice(0, -1)) {
    const parsed = lineSchema.safeParse(parseLine(line))
    if (!parsed.success) continue
    if ('begin' in parsed.data) {
      const { begin, tag } = parsed.data
      if (tag === undefined || parts.get(begin)?.tag !== tag) parts.delete(begin)
      continue
    }
    const { boot: writtenUnder, ...part } = parsed.data
    parts.set(part.number, { ...part, thisBoot: boot !== '' && writtenUnder === boot })
  }
  return [...parts.values()].sort((a, b) => a.number - b.number)
}

function parseLine(line: string): unknown {
  try {
    return JSON.parse(line)
  } catch {
    return undefined
  }
}

/** Whether the file holds the part's bytes, as far as can be told. */
export async function holdsPart(data: FileHandle, part: JournaledPart): Promise<boolean> {
  if (part.sha256 === undefined) return false
  const hash = createHash('sha256')
  const buffer = Buffer.allocUnsafe(1024 * 1024)
  for (let done = 0; done < part.bytes; ) {
    const { bytesRead } = await data.read(
      buffer,
      0,
      Math.min(buffer.length, part.bytes - done),
      part.offset + done,
    )
    if (bytesRead === 0) return false
    hash.update(buffer.subarray(0, bytesRead))
    done += bytesRead
  }
  return hash.digest('hex') === part.sha256
}
