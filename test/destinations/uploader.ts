/**
 * A process that uploads and may be killed at any moment. Reads its order from standard input (it holds credentials),
 * resumes what is there, and prints one line before and after each step.
 */
import { createHash } from 'node:crypto'
import { text } from 'node:stream/consumers'
import { openSshHost } from '../../hosts/ssh/index.ts'
import type { DestinationRecord } from '../../model/records.ts'
import type { Destination } from '../../storage/destination.ts'
import { openDestination } from '../../storage/index.ts'

export interface UploadOrder {
  record: DestinationRecord
  secrets: Record<string, string>
  /** How to get to the server that the destination is on. */
  ssh?: Parameters<typeof openSshHost>[0]
  key: string
  /** Absent: a new upload is opened and its id printed. */
  uploadId?: string
  seed: string
  parts: number
  partBytes: number
}

/** Closing it ends the connection, too. */
export async function openOrdered(
  order: Pick<UploadOrder, 'record' | 'secrets' | 'ssh'>,
): Promise<Destination> {
  if (!order.ssh) return await openDestination(order.record, order.secrets)
  const { script, link } = openSshHost(order.ssh)
  const shellOn = async (name: string) => ({ name, script })
  const destination = await openDestination(order.record, order.secrets, { shellOn })
  return { ...destination, close: async () => link.close() }
}

/** The same bytes for the same seed and part, in every process. The last part is short. */
export function partBody(order: Pick<UploadOrder, 'seed' | 'parts' | 'partBytes'>, number: number): Buffer {
  const outputLength = number === order.parts ? 1234 : order.partBytes
  return createHash('shake128', { outputLength }).update(`${order.seed}/${number}`).digest()
}

if (import.meta.main) {
  const order: UploadOrder = JSON.parse(await text(process.stdin))
  const say = (line: string) => process.stdout.write(`${line}\n`)
  const destination = await openOrdered(order)
  const uploadId = order.uploadId ?? (await destination.openUpload(order.key))
  say(`upload ${uploadId}`)
  const there = await destination.listParts(order.key, uploadId)
  const parts = new Map((there ?? []).map(part => [part.number, part]))
  if (there) {
    for (let number = 1; number <= order.parts; number += 1) {
      const body = partBody(order, number)
      const sha256 = createHash('sha256').update(body).digest('hex')
      if (parts.get(number)?.sha256 === sha256) continue
      say(`sending ${number}`)
      const offset = (number - 1) * order.partBytes
      parts.set(number, await destination.putPart(order.key, uploadId, { number, offset, body, sha256 }))
      say(`sent ${number}`)
    }
    say('completing')
    const sorted = [...parts.values()].sort((a, b) => a.number - b.number)
    await destination.completeUpload(order.key, uploadId, sorted)
  } else {
    // Gone: completed by the process that was killed.
    if (!(await destination.stat(order.key))) throw new Error('neither an upload nor an object')
  }
  say('completed')
  await destination.close()
}
