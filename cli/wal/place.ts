/** Puts a fetched file where recovery wants it: whole or not at all. */
import { randomBytes } from 'node:crypto'
import { open, readdir, rename, rm, stat } from 'node:fs/promises'
import { dirname, join } from 'node:path'

const draftPattern = /^\.holdfast-wal-[0-9a-f]{16}$/
const abandonedMs = 3_600_000

export async function placeFile(target: string, content: Buffer): Promise<void> {
  const folder = dirname(target)
  await removeAbandoned(folder)
  const draft = join(folder, `.holdfast-wal-${randomBytes(8).toString('hex')}`)
  try {
    const file = await open(draft, 'wx', 0o600)
    try {
      await file.writeFile(content)
      await file.sync()
    } finally {
      await file.close()
    }
    await rename(draft, target)
  } finally {
    await rm(draft, { force: true })
  }
}

/** Of fetches that were killed: a segment each. */
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
