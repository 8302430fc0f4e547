/** A destination that is away for minutes while a server writes: the server keeps its log, the archive catches up, nothing is lost. */
import assert from 'node:assert/strict'
import { readdir, rename } from 'node:fs/promises'
import { describe, it } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { nextSegment, usualSegmentBytes } from '../../model/wal.ts'
import { startPostgres } from '../servers/postgres.ts'
import { scratch } from '../support/temporary.ts'
import { archived, site, writer } from './site.ts'

const awayMs = 120_000

describe('a destination that is away for minutes', () => {
  it('has every segment in the end', async () => {
    await using place = await scratch()
    const { store, ...on } = await site(place.path)
    const server = await startPostgres({
      version: 15,
      config: `wal_level = replica\narchive_mode = on\narchive_command = '${on.pushCommand('a')}'`,
    })
    try {
      await on.configured('a', server.dataDir)
      const agent = await on.startAgent('a')
      try {
        await server.sql('create table line (id bigserial primary key, filler text not null)')
        await archived(server.sql)
        const first = await server.sql('select pg_walfile_name(pg_current_wal_lsn())')
        const writing = writer(server.sql)
        await rename(store, `${store}-away`)
        await sleep(awayMs)
        const waiting = await readdir(`${server.dataDir}/pg_wal/archive_status`)
        assert.ok(waiting.filter(file => file.endsWith('.ready')).length > 3, waiting.join(' '))
        await rename(`${store}-away`, store)
        await writing.stop()
        const last = await server.sql('select pg_walfile_name(pg_current_wal_lsn())')
        await archived(server.sql)
        const there = new Set((await readdir(store, { recursive: true })).map(file => file.slice(-28)))
        let count = 0
        for (let name: string | undefined = first; name !== undefined && name <= last; count += 1) {
          assert.ok(there.has(`${name}.wal`), `${name} of ${first} to ${last}`)
          name = nextSegment(name, usualSegmentBytes)
        }
        assert.ok(count > 3, `${count} segments`)
      } finally {
        agent.child.kill('SIGTERM')
        await agent.ended
      }
    } finally {
      await server.stop()
    }
  })
})
