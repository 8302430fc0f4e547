/** A real PostgreSQL that archives under a writer, and one that is recovered from a base backup and the archive. */
import assert from 'node:assert/strict'
import { readdir, rename } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import { archivingChecks, archivingSql } from '../../engines/postgresql/physical/archiving.ts'
import { archivingFacts } from '../../model/archiving.ts'
import { eventually } from '../cli/run.ts'
import { startPostgres } from '../servers/postgres.ts'
import { scratch } from '../support/temporary.ts'
import { archived, inRecovery, refused, site, sumOfAll, writer } from './site.ts'

describe('PostgreSQL', () => {
  for (const resident of [true, false]) {
    it(`archives ${resident ? 'by an agent' : 'without an agent'}, survives a destination that is away, and replays all of it`, async () => {
      await using place = await scratch()
      const { store, ...on } = await site(place.path)
      const server = await startPostgres({
        version: 15,
        config: `wal_level = replica\narchive_mode = on\narchive_command = '${on.pushCommand('a')}'\nmax_wal_senders = 4`,
      })
      let agent: Awaited<ReturnType<typeof on.startAgent>> | undefined
      try {
        await on.configured('a', server.dataDir)
        if (resident) agent = await on.startAgent('a')
        await server.sql('create table line (id bigserial primary key, filler text not null)')
        await archived(server.sql)
        const base = join(place.path, 'base')
        const writing = writer(server.sql)
        await on.baseBackup(server, base)
        // Away for some tries of PostgreSQL's: it keeps the log, counts the failures, and goes on by itself.
        await rename(store, `${store}-away`)
        await server.sql('select pg_switch_wal()')
        await eventually('PostgreSQL to hear of it', async () => {
          return Number(await server.sql('select failed_count from pg_stat_archiver')) > 0 ? true : undefined
        })
        const told = archivingChecks(archivingFacts.parse(JSON.parse(await server.sql(archivingSql))))
        assert.deepEqual(
          told.map(({ id, answer }) => [id, answer]),
          [
            ['postgresql.archiving', 'warn'],
            ['postgresql.archive-lag', 'warn'],
          ],
        )
        assert.match(told[0]?.detail ?? '', /^By Holdfast\. archive_timeout is 0/)
        assert.match(told[1]?.detail ?? '', /^Archiving has failed for \d+ s\./)
        await rename(`${store}-away`, store)
        await writing.stop()
        await archived(server.sql)
        const sum = await server.sql(sumOfAll)

        const recovering = await on.copyOf(base, 'copy', 'recovery', [
          `restore_command = '${on.fetchCommand('a')}'`,
          "archive_mode = 'off'",
          "archive_command = ''",
        ])
        const { port } = server
        await server.kill9()
        // What cannot be said is no end of the log: the recovery stops, and goes on when it is started again.
        await rename(store, `${store}-away`)
        assert.match(await refused(on.start(recovering, port), recovering), /exited with exit code 255/)
        await rename(`${store}-away`, store)
        const copy = await on.start(recovering, port)
        try {
          await eventually('the end of the recovery', async () =>
            (await inRecovery(copy.sql)) ? undefined : true,
          )
          assert.equal(await copy.sql(sumOfAll), sum)
          const left = await readdir(join(recovering, 'pg_wal'))
          assert.deepEqual(
            left.filter(file => file.startsWith('.holdfast-wal-')),
            [],
          )
        } finally {
          await copy.stop()
        }
      } finally {
        agent?.child.kill('SIGTERM')
        await agent?.ended
        await server.stop()
      }
    })
  }
})
