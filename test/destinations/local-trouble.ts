/**
 * Run by local-trouble.test.ts in a mount namespace of its own, so that small and read-only file systems can be had and
 * vanish with it. Prints one JSON line with the codes and what was left.
 */
import { createHash, randomBytes } from 'node:crypto'
import { statfs } from 'node:fs/promises'
import { HoldfastError } from '../../model/errors.ts'
import type { Destination, PartInfo } from '../../storage/destination.ts'
import { openDestination } from '../../storage/index.ts'
import { filesBelow, localRecord } from './subjects.ts'

const [mode = '', root = ''] = process.argv.slice(2)

const outcome = async (act: Promise<unknown>) => {
  try {
    await act
    return 'done'
  } catch (error) {
    return error instanceof HoldfastError ? `${error.code}: ${error.message}` : `not ours: ${error}`
  }
}

async function upload(destination: Destination, key: string, bytes: number) {
  const uploadId = await destination.openUpload(key)
  const body = randomBytes(1024 * 1024)
  const sha256 = createHash('sha256').update(body).digest('hex')
  const parts: PartInfo[] = []
  try {
    for (let offset = 0; offset < bytes; offset += body.length) {
      const part = { number: parts.length + 1, offset, body, sha256 }
      parts.push(await destination.putPart(key, uploadId, part))
    }
    await destination.completeUpload(key, uploadId, parts)
  } catch (error) {
    const there = await destination.listParts(key, uploadId)
    await destination.abortUpload(key, uploadId)
    if (there?.length !== parts.length)
      throw new Error(`${there?.length} of ${parts.length} parts are listed`)
    throw error
  }
}

const destination = await openDestination(localRecord(root), {})
const said: Record<string, unknown> = {}
if (mode === 'full') {
  said.upload = await outcome(upload(destination, 'big/artifact', 64 * 1024 * 1024))
  said.put = 'done'
  for (let index = 0; said.put === 'done' && index < 64; index += 1) {
    said.put = await outcome(destination.put(`fill/${index}`, randomBytes(1024 * 1024)))
  }
  said.openUpload = await outcome(
    destination.openUpload('another').then(id => destination.abortUpload('another', id)),
  )
  said.left = (await filesBelow(root)).filter(path => !path.startsWith('fill/'))
  for await (const { key, bytes } of destination.list('fill/')) {
    if (bytes !== 1024 * 1024) throw new Error(`${key} has ${bytes} bytes`)
    await destination.remove(key)
  }
  // Once there is room again, all is well.
  said.after = await outcome(upload(destination, 'small/artifact', 2 * 1024 * 1024))
  await destination.remove('small/artifact')
  said.freeBytes = await statfs(root).then(({ bavail, bsize }) => bavail * bsize)
} else {
  // Root may write everywhere; another user may not. Everything is loaded by now.
  if (mode === 'denied' && process.getuid?.() === 0) process.seteuid?.(65_534)
  said.check = await outcome(destination.check())
  said.put = await outcome(destination.put('a/b', Buffer.from('x')))
  said.openUpload = await outcome(destination.openUpload('a/c'))
  said.read = await outcome(destination.read('not-there'))
}
await destination.close()
console.log(JSON.stringify(said))
