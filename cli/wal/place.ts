/**
 * Puts a fetched file beside where recovery wants it. The client gives it its name, as long as PostgreSQL waits for it: a fetch that
 * was given up and ends late must not exchange the file of the one that came after.
 */
import { randomBytes } from 'node:crypto'
import { readdir, rm, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'

const draftPattern = /^\.holdfast-wal-[0-9a-f]{16}$/
const abandonedMs = 3_600_000

/** Into the folder; returns its path. */
export async function writeDraft(folder: string, content: Uint8Array): Promise<string> {
  await removeAbandoned(folder)
  const draft = draftIn(folder)
  try {
    // Not synced: PostgreSQL does that with what it keeps, and asks again for the rest.
    await writeFile(draft, content, { flag: 'wx', mode: 0o600 })
  } catch (error) {
    await rm(draft, { force: true })
    throw error
  }
  return draft
}

export const draftIn = (folder: string): string =>
  join(folder, `.holdfast-wal-${randomBytes(8).toString('hex')}`)

/** Of fetches whose client was killed: a segment each. */
async function removeAbandoned(folder: string): Promise<void> {
  for (const name of await readdir(folder)) {
    if (!draftPattern.test(name)) continue
    const path = join(folder, name)
    const age = await stat(path).then(
      found => Date.now() - found.mtimeMs,
      () => 0,
    )
    if (age > abandonedMs) await rm(path, { force: true })
  }
}
