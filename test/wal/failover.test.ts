/**
 * One archive through a failover, with everything killed on the way: the agent, the clients, the primary. Both timelines come back to
 * the last transaction, and a recovery that meets a damaged or missing file stops instead of ending early.
 */
import assert from 'node:assert/strict'
import { readdir, readFile, rename, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { it } from 'node:test'
import { freePort } from '../../cli/free-port.ts'
import { baseFor, recoveryWindows } from '../../model/recovery-window.ts'
import { parseLsn, segmentAt, usualSegmentBytes } from '../../model/wal.ts'
import { openDestination } from '../../storage/index.ts'
import { listLog } from '../../storage/wal/listing.ts'
import { eventually } from '../cli/run.ts'
import { startPostgres } from '../servers/postgres.ts'
import { scratch } from '../support/temporary.ts'
import { archived, inRecovery, insert, refused, type Site, site, sumOfAll, writer } from './site.ts'

it('an archive outlives its agent, its clients and its primary, on both timelines', async () => {
  await using place = await scratch()
  const { store, ...on } = await site(place.path)
  const server = await startPostgres({
    version: 15,
    config: `wal_level = replica\narchive_mode = on\narchive_command = '${on.pushCommand('a')}'\nmax_wal_senders = 4`,
  })
  let agent: Awaited<ReturnType<Site['startAgent']>> | undefined
  try {
    await on.configured('a', server.dataDir)
    agent = await on.startAgent('a')
    await server.sql('create table line (id bigserial primary key, filler text not null)')
    const base = join(place.path, 'base')
    await on.baseBackup(server, base)
    await on.configured('b', base)
    const standbyDir = await on.copyOf(base, 'standby', 'standby', [
      `primary_conninfo = 'host=127.0.0.1 port=${server.port} user=postgres'`,
      `restore_command = '${on.fetchCommand('b')}'`,
      `archive_command = '${on.pushCommand('b')}'`,
    ])
    const standbyPort = await freePort()
    const standby = await on.start(standbyDir, standbyPort)

    const writing = writer(server.sql)
    for (let round = 0; round < 4; round += 1) {
      await server.sql('select pg_switch_wal()')
      killEach(await processesWith('wal push', on.configOf('a')))
      killEach(await processesWith('wal agent', on.configOf('a')))
      await agent.ended
      // For a while the clients do it themselves, and some of them are killed, too.
      killEach(await processesWith('client.ts', on.configOf('a')))
      agent = await on.startAgent('a')
    }
    // In the middle of archiving and of writing.
    await server.kill9()
    await writing.stop()
    await standby.sql('select pg_promote()')
    for (let rows = 0; rows < 5; rows += 1) await standby.sql(insert)
    await archived(standby.sql)
    const onTwo = await standby.sql(sumOfAll)
    await standby.stop()
    // The old primary comes back, and goes on where it was: its log is another timeline's.
    await server.restart()
    await server.sql(insert)
    await archived(server.sql)
    const onOne = await server.sql(sumOfAll)
    assert.notEqual(onOne, onTwo)
    await server.kill9()

    const names = (await readdir(store, { recursive: true })).filter(name => name.endsWith('.wal'))
    const objectOf = (pattern: RegExp) => {
      const found = names.filter(name => pattern.test(name)).sort()
      return join(store, found[Math.floor(found.length / 2)] ?? assert.fail(`no ${pattern}`))
    }
    objectOf(/\.partial\.wal$/)
    const manifest = JSON.parse(await readFile(join(base, 'backup_manifest'), 'utf8'))
    const [needed] = manifest['WAL-Ranges']
    const lsn = (name: string) => parseLsn(needed[name]) ?? assert.fail(name)
    const range = { start: lsn('Start-LSN'), stop: lsn('End-LSN') }
    const bases = [{ backupId: 'base', timeline: needed.Timeline, ...range }]
    const windows = async () => {
      const uri = `file://${store}`
      const about = {
        name: 'store',
        kind: 'local',
        uri,
        settings: {},
        secretFields: [],
        createdAt: '',
      } as const
      const destination = await openDestination({ ...about, secretFields: [] }, {})
      const systemIdentifier = names[0]?.split('/')[2] ?? ''
      const log = await listLog(destination, { connection: 'shop', systemIdentifier })
      await destination.close()
      return recoveryWindows(log, bases)
    }
    const [one, two] = await windows()
    assert.ok(one && two)
    assert.deepEqual([one.timeline, one.gaps, two.timeline, two.gaps], [1, [], 2, []])
    assert.deepEqual([one.intervals.length, two.intervals.length, two.parent?.parent], [1, 1, 1])
    const branch = two.parent?.at ?? 0n
    assert.equal(baseFor(two, branch)?.backupId, 'base')

    const follow = (timeline: 'latest' | 'current') =>
      on.copyOf(base, timeline, 'recovery', [
        `restore_command = '${on.fetchCommand('b')}'`,
        `recovery_target_timeline = '${timeline}'`,
        "archive_mode = 'off'",
      ])
    const trusting = JSON.parse(await readFile(on.configOf('b'), 'utf8'))
    await writeFile(on.configOf('b'), JSON.stringify({ ...trusting, prefetch: 0 }))
    const latest = await follow('latest')
    // Before the branch: the primary was told four times to begin another one.
    const middle = objectOf(
      new RegExp(`${segmentAt(1, range.stop + BigInt(usualSegmentBytes), usualSegmentBytes)}\\.wal$`),
    )
    const damages: [string, (bytes: Buffer) => Buffer | undefined, RegExp][] = [
      [middle, () => undefined, /wal\.gap/],
      [middle, bytes => bytes.subarray(0, bytes.length - 1), /wal\.damaged/],
      [
        middle,
        bytes => Buffer.from(bytes.map((byte, at) => (at === bytes.length - 9 ? byte ^ 1 : byte))),
        /wal\.damaged/,
      ],
      [objectOf(/00000002\.history\.wal$/), () => undefined, /wal\.gap/],
    ]
    for (const [path, damage, words] of damages) {
      const whole = await readFile(path)
      const damaged = damage(whole)
      if (damaged === undefined) await rename(path, `${path}-away`)
      else await writeFile(path, damaged)
      const log = await refused(on.start(latest, server.port), latest)
      assert.match(log, /exited with exit code 255/, String(words))
      assert.match(log, words)
      if (damaged === undefined && path === middle) {
        const gap = (await windows())[1]?.gaps[0]
        assert.equal(gap?.first, gap?.last)
        assert.ok(gap && gap.cutsOff.from < branch && gap.cutsOff.to === undefined)
      }
      if (damaged === undefined) await rename(`${path}-away`, path)
      else await writeFile(path, whole)
      await writeFile(join(latest, 'server.log'), '')
    }
    for (const [directory, sum] of [
      [latest, onTwo],
      [await follow('current'), onOne],
    ] as const) {
      const copy = await on.start(directory, server.port)
      try {
        await eventually('the end of the recovery', async () =>
          (await inRecovery(copy.sql)) ? undefined : true,
        )
        assert.equal(await copy.sql(sumOfAll), sum)
      } finally {
        await copy.stop()
      }
    }
  } finally {
    killEach(await processesWith('wal agent', on.configOf('a')))
    await agent?.ended
    await server.stop()
  }
})

async function processesWith(...words: string[]): Promise<number[]> {
  const found: number[] = []
  for (const pid of await readdir('/proc')) {
    const command = await readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '')
    const line = command.replaceAll('\0', ' ')
    // The postmaster's own words are none of a program's.
    if (words.every(word => line.includes(word)) && !line.startsWith('postgres')) found.push(Number(pid))
  }
  return found.filter(pid => pid > 1 && pid !== process.pid)
}

function killEach(pids: readonly number[]): void {
  for (const pid of pids) {
    try {
      process.kill(pid, 'SIGKILL')
    } catch {
      // It has ended by itself.
    }
  }
}
