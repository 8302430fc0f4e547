/** The sample shop, once per engine: made, backed up, verified, dropped, restored, compared. */
import { mkdir, rm, stat } from 'node:fs/promises'
import { join } from 'node:path'
import type { Client } from '../cli/client.ts'
import { bytes } from '../cli/terminal.ts'
import { connectionView } from '../model/views.ts'
import { backUp, compare, restore, verify } from './operations.ts'
import {
  identifier,
  makePostgresShop,
  postgresDigest,
  serverPrograms,
  sql,
  startThrowAwayServer,
} from './postgresql.ts'
import { makeSqliteShop, sqliteDigest } from './sqlite.ts'
import type { Timeline } from './timeline.ts'

const thousands = (count: number) => count.toLocaleString('en-US')

export async function sqliteShop(client: Client, timeline: Timeline, folder: string): Promise<boolean> {
  timeline.title('SQLite')
  await mkdir(folder, { recursive: true, mode: 0o700 })
  const path = join(folder, 'shop.sqlite')
  const since = performance.now()
  const rows = makeSqliteShop(path)
  const before = sqliteDigest(path)
  timeline.step('·', 'shop', `${thousands(rows)} rows, ${bytes((await stat(path)).size)}: ${path}`, since)
  await client.post(connectionView, '/v1/connections', { name: 'shop-sqlite', url: path })
  const backup = await backUp(client, timeline, 'shop-sqlite')
  await verify(client, timeline, backup)
  for (const file of [path, `${path}-wal`, `${path}-shm`]) await rm(file, { force: true })
  timeline.step('✗', 'dropped', 'the file is gone')
  await restore(client, timeline, backup, { connection: 'shop-sqlite', database: path })
  return compare(timeline, before, sqliteDigest(path))
}

/** The server it starts is pushed to `servers`: whoever calls stops it, at once or when the demo is no longer kept. */
export async function postgresShop(
  client: Client,
  timeline: Timeline,
  servers: { stop(): Promise<void> }[],
): Promise<boolean> {
  timeline.title('PostgreSQL')
  const programs = serverPrograms()
  if (programs === undefined) {
    timeline.aside(
      'no PostgreSQL server is installed here (Debian: apt install postgresql); only SQLite was shown',
    )
    return true
  }
  const since = performance.now()
  const server = await startThrowAwayServer(programs)
  servers.push(server)
  const rows = await makePostgresShop(server, 'shop')
  const before = await postgresDigest(server, 'shop')
  const where = `PostgreSQL ${server.version}, a server of our own on port ${server.port}`
  timeline.step('·', 'shop', `${thousands(rows)} rows in ${where}`, since)
  await client.post(connectionView, '/v1/connections', {
    name: 'shop',
    url: `postgres://${server.user}@${server.host}:${server.port}/shop`,
    secrets: { password: server.password },
  })
  const backup = await backUp(client, timeline, 'shop')
  await verify(client, timeline, backup)
  await sql(server, 'postgres', `DROP DATABASE ${identifier('shop')};`)
  timeline.step('✗', 'dropped', 'DROP DATABASE shop')
  await restore(client, timeline, backup, { connection: 'shop', database: 'shop' })
  return compare(timeline, before, await postgresDigest(server, 'shop'))
}
