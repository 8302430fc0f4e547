/** A real PostgreSQL that archives under a writer, and one that is recovered from a base backup and the archive. */
import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { chmod, chown, mkdir, readdir, readFile, rename, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import { promisify } from 'node:util'
import type { WalConfig } from '../../model/wal-format.ts'
import { createKey } from '../../storage/keys.ts'
import { eventually, holdfast, launcher, start } from '../cli/run.ts'
import { postgresBinaries, startPostgres, type TestPostgres } from '../servers/postgres.ts'
import { scratch } from '../support/temporary.ts'

const run = promisify(execFile)

/** Everything below belongs to whoever runs PostgreSQL. */
async function given(path: string, user: { uid: number; gid: number } | undefined): Promise<void> {
  if (!user) return
  await chown(path, user.uid, user.gid)
  for (const entry of await readdir(path, { recursive: true }))
    await chown(join(path, entry), user.uid, user.gid)
}

async function serverUser(): Promise<{ uid: number; gid: number } | undefined> {
  if (process.getuid?.() !== 0) return undefined
  const id = async (flag: string) => Number((await run('id', [flag, 'postgres'])).stdout)
  return { uid: await id('-u'), gid: await id('-g') }
}

/** One row per transaction until it is told to stop; resolves to the number of rows. */
function writer(server: TestPostgres): { stop(): Promise<number> } {
  let stopped = false
  const writing = (async () => {
    while (!stopped) {
      await server.sql(
        'insert into line (filler) select repeat(md5(random()::text), 60) from generate_series(1, 100)',
      )
    }
  })()
  writing.catch(() => {})
  return {
    async stop() {
      stopped = true
      await writing
      return Number(await server.sql('select count(*) from line'))
    },
  }
}

const sumOfAll = "select md5(string_agg(filler, '' order by id)) from line"

const archived = async (server: TestPostgres): Promise<void> => {
  const last = await server.sql('select pg_walfile_name(pg_switch_wal())')
  await eventually(`the archive to have ${last}`, async () => {
    const newest = await server.sql("select coalesce(last_archived_wal, '') from pg_stat_archiver")
    return newest.slice(0, 24) >= last ? true : undefined
  })
}

describe('PostgreSQL', () => {
  for (const resident of [true, false]) {
    it(`archives ${resident ? 'by an agent' : 'without an agent'}, survives a destination that is away, and replays all of it`, async () => {
      await using place = await scratch()
      await chmod(place.path, 0o755)
      const user = await serverUser()
      const etc = join(place.path, 'etc')
      const store = join(place.path, 'store')
      for (const directory of [etc, store]) await mkdir(directory)
      const config = join(etc, 'wal.json')
      const command = `${launcher} wal push --config ${config}`
      const server = await startPostgres({
        version: 15,
        config: `wal_level = replica\narchive_mode = on\narchive_command = '${command} %p'\nmax_wal_senders = 4`,
      })
      let agent: ReturnType<typeof start> | undefined
      try {
        await createKey(etc, 'mine', {})
        const init = ['wal', 'init', '--config', config, '--connection', 'shop', '--pgdata', server.dataDir]
        const made = await holdfast([...init, '--to', store, '--encrypt-to', join(etc, 'mine.json')])
        assert.equal(made.code, 0, made.stderr)
        const written = JSON.parse(await readFile(config, 'utf8')) as WalConfig
        await writeFile(config, JSON.stringify({ ...written, openWith: ['mine.json'], patienceSeconds: 1 }))
        const begun = await holdfast(['wal', 'begin', '--config', config])
        assert.equal(begun.code, 0, begun.stderr)
        await given(etc, user)
        await given(store, user)
        const asServer = async (program: string, args: string[]) =>
          await run(program, args, { ...user, cwd: place.path })
        // The agent runs as PostgreSQL's user; runuser keeps the rest of the surroundings.
        if (resident) {
          agent = user
            ? start(['-u', 'postgres', '--', launcher, 'wal', 'agent', '--config', config], {
                program: 'runuser',
              })
            : start(['wal', 'agent', '--config', config])
          await eventually('the agent', async () =>
            (await readdir(etc)).includes('wal.sock') ? true : undefined,
          )
        }
        await server.sql('create table line (id bigserial primary key, filler text not null)')
        await archived(server)
        const base = join(place.path, 'base')
        await mkdir(base, { mode: 0o700 })
        await given(base, user)
        const { bin } = await postgresBinaries(15)
        const writing = writer(server)
        await asServer(join(bin, 'pg_basebackup'), [
          ...['-h', '127.0.0.1', '-p', String(server.port), '-U', 'postgres'],
          ...['-D', base, '-X', 'none', '-c', 'fast', '--no-sync'],
        ])
        // Away for some tries of PostgreSQL's: it keeps the log, counts the failures, and goes on by itself.
        await rename(store, `${store}-away`)
        await server.sql('select pg_switch_wal()')
        await eventually('PostgreSQL to hear of it', async () => {
          return Number(await server.sql('select failed_count from pg_stat_archiver')) > 0 ? true : undefined
        })
        await rename(`${store}-away`, store)
        const rows = await writing.stop()
        await archived(server)
        const sum = await server.sql(sumOfAll)

        const recover = `${launcher} wal fetch --config ${config}`
        const settings = [
          `restore_command = '${recover} %f %p'`,
          "archive_mode = 'off'",
          "archive_command = ''",
          `unix_socket_directories = '${base}'`,
        ]
        await writeFile(join(base, 'postgresql.auto.conf'), `${settings.join('\n')}\n`)
        await writeFile(join(base, 'recovery.signal'), '')
        await given(base, user)
        const port = server.port
        await server.kill9()
        const log = join(base, 'server.log')
        const startBase = () =>
          asServer(join(bin, 'pg_ctl'), [
            '-D',
            base,
            '-o',
            `-p ${port}`,
            '-l',
            log,
            '-w',
            '-t',
            '120',
            'start',
          ])
        // What cannot be said is no end of the log: the recovery stops, and goes on when it is started again.
        await rename(store, `${store}-away`)
        await assert.rejects(startBase())
        assert.match(await readFile(log, 'utf8'), /exited with exit code 255/)
        await rename(`${store}-away`, store)
        await startBase()
        try {
          await eventually('the end of the recovery', async () =>
            (await server.sql('select pg_is_in_recovery()')) === 'f' ? true : undefined,
          )
          assert.equal(Number(await server.sql('select count(*) from line')), rows)
          assert.equal(await server.sql(sumOfAll), sum)
          const left = (await readdir(join(base, 'pg_wal'))).filter(file => file.startsWith('.holdfast-wal-'))
          assert.deepEqual(left, [])
        } finally {
          await asServer(join(bin, 'pg_ctl'), ['-D', base, '-m', 'immediate', '-w', 'stop'])
        }
      } finally {
        agent?.child.kill('SIGTERM')
        await agent?.ended
        await server.stop()
      }
    })
  }
})
