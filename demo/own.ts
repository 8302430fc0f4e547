/** A database of the reader's own: only read, and restored beside under another name. */
import { randomBytes } from 'node:crypto'
import { mkdir } from 'node:fs/promises'
import { basename, join } from 'node:path'
import type { Client } from '../cli/client.ts'
import { engineForUrl } from '../engines/index.ts'
import { connectionView } from '../model/views.ts'
import { backUp, compare, restore, verify } from './operations.ts'
import { postgresDigest } from './postgresql.ts'
import { sqliteDigest } from './sqlite.ts'
import type { Timeline } from './timeline.ts'

interface Beside {
  title: string
  /** Name of the copy. */
  database: string
  digest(database: string): Promise<string>
  source: string
  removal: string
}

export async function ownDatabase(
  client: Client,
  timeline: Timeline,
  url: string,
  folder: string,
): Promise<boolean> {
  const { beside, secrets } = await plan(url, folder)
  timeline.title(beside.title)
  await client.post(connectionView, '/v1/connections', { name: 'yours', url, secrets })
  const before = await beside.digest(beside.source)
  const backup = await backUp(client, timeline, 'yours')
  await verify(client, timeline, backup)
  await restore(client, timeline, backup, { connection: 'yours', database: beside.database })
  const equal = compare(timeline, before, await beside.digest(beside.database))
  if (!equal)
    timeline.aside('If somebody wrote to the database meanwhile, that is the difference: try a quiet moment.')
  timeline.aside(
    `your database was only read; the copy is yours to look at. Remove it with: ${beside.removal}`,
  )
  return equal
}

async function plan(
  url: string,
  folder: string,
): Promise<{ beside: Beside; secrets: Record<string, string> }> {
  const engine = engineForUrl(url)
  const { settings, secrets } = engine.parseUrl(url)
  const title = `${engine.title}: ${engine.describe(settings)}`
  if (engine.name === 'sqlite') {
    const { path } = settings as { path: string }
    await mkdir(folder, { recursive: true, mode: 0o700 })
    const database = join(folder, basename(path))
    const digest = async (file: string) => sqliteDigest(file)
    return {
      beside: { title, database, digest, source: path, removal: `rm '${database.replaceAll("'", "'\\''")}'` },
      secrets,
    }
  }
  const { host, port, user, database } = settings as {
    host: string
    port: number
    user: string
    database: string
  }
  const password = secrets.password ?? process.env.PGPASSWORD
  const address = { host, port, user, password }
  const copy = `holdfast_demo_${randomBytes(4).toString('hex')}`
  return {
    beside: {
      title,
      database: copy,
      digest: name => postgresDigest(address, name),
      source: database,
      removal: `dropdb -h ${host} -p ${port} -U ${user} ${copy}`,
    },
    secrets: password === undefined ? {} : { password },
  }
}
