/** The screen for three in the morning, against what is really there; the command it shows is run as it stands. */
import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { rename, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { promisify } from 'node:util'
import type { DatabaseStatus, StatusView } from '../../model/views.ts'
import { digestSqlite } from '../support/digest.ts'
import { makeShop } from '../support/shop.ts'
import { directory, eventually, type Stack, startStack } from './stack.ts'

const root = join(import.meta.dirname, '../..')

describe('status', () => {
  let stack: Stack
  let disk = ''
  let shop = ''
  const status = () => stack.expectOk<StatusView>('GET', '/v1/status')
  const ofShop = async (): Promise<DatabaseStatus> => {
    const found = (await status()).databases.find(one => one.connection === 'shop')
    assert.ok(found)
    return found
  }
  const codes = ({ problems }: Pick<DatabaseStatus, 'problems'>) =>
    problems.filter(one => one.level !== 'note').map(one => one.code)
  const cli = async (...args: string[]) => {
    const env = { ...stack.env, HOLDFAST_URL: stack.apiUrl, XDG_CONFIG_HOME: stack.directory, COLUMNS: '80' }
    const run = promisify(execFile)(join(root, 'bin/holdfast'), args, { env, cwd: stack.directory })
    return await run.then(
      ({ stdout }) => ({ code: 0, stdout }),
      (error: { code: number; stdout: string }) => ({ code: error.code, stdout: error.stdout }),
    )
  }
  const backUp = async () => {
    const made = await stack.ended((await stack.backup({ connection: 'shop', destinations: ['disk'] })).id)
    assert.equal(made.state, 'succeeded', JSON.stringify(made.error))
    return made.backup
  }

  before(async () => {
    stack = await startStack({ worker: false })
    disk = await directory(stack, 'disk')
    shop = join(stack.directory, "the shop's.db")
    makeShop(shop, { rows: 500 })
    await stack.expectOk('POST', '/v1/connections', { name: 'shop', url: `sqlite:${shop}` })
    await stack.expectOk('POST', '/v1/destinations', { name: 'disk', uri: disk })
  })
  after(() => stack?.stop())

  test('no worker, no backup: both are said, and the screen ends with 2', async () => {
    const now = await status()
    assert.equal(now.level, 'critical')
    assert.deepEqual(
      now.problems.map(one => one.code),
      ['worker.none'],
    )
    assert.deepEqual(codes(await ofShop()), ['backup.not-found'])
    stack.startWorker()
    await eventually('the worker is seen', async () =>
      (await status()).temporal.workers === 1 ? true : undefined,
    )
    const { code, stdout } = await cli('status')
    assert.equal(code, 2)
    assert.match(stdout, /✗ shop +never\n.*\n.*\n +\$ holdfast backup shop\n/)
  })

  test('doctor finds the services of this machine', async () => {
    const { code, stdout } = await cli('doctor', '--json')
    const { findings } = JSON.parse(stdout) as {
      findings: { section: string; title: string; answer: string; detail: string }[]
    }
    const rows = findings.filter(one => ['api', 'temporal'].includes(one.section))
    assert.deepEqual(
      rows.filter(one => one.answer !== 'pass'),
      [],
    )
    assert.ok(rows.some(one => one.title === 'workers'))
    assert.match(rows.find(one => one.title === 'temporal')?.detail ?? '', /server \d+\.\d+/)
    assert.ok(!stdout.includes(stack.token))
    assert.ok(code === 0 || code === 1, stdout)
  })

  test('a backup: its moment, its age, its key; the time a restore takes is first that of the backup', async () => {
    const id = await backUp()
    const one = await ofShop()
    assert.equal(one.level, 'healthy', JSON.stringify(one.problems))
    assert.equal(one.latestBackup?.id, id)
    assert.deepEqual(
      [one.latestBackup.seen, one.latestBackup.keyAtHand, one.latestBackup.verified],
      [true, true, null],
    )
    assert.equal(one.restore?.basis, 'backup')
    assert.ok((one.restore.seconds ?? 0) > 0)
    assert.equal((await cli('status')).code, 0)
  })

  test('the command it shows restores the database, as it is copied from 80 columns; then its time is measured', async () => {
    const { stdout } = await cli('status', 'shop')
    const shown = /^ +\$ (holdfast restore .*\\\n.*)$/m.exec(stdout)?.[1]
    assert.ok(shown, stdout)
    assert.ok(stdout.split('\n').every(line => line.length <= 80 || line.includes('--database')))
    const env = {
      ...stack.env,
      PATH: `${root}/bin:${process.env.PATH}`,
      HOLDFAST_URL: stack.apiUrl,
      XDG_CONFIG_HOME: '/nowhere',
    }
    await promisify(execFile)('bash', ['-c', shown], { env, cwd: stack.directory })
    const one = await ofShop()
    const name = /--database '(.*)'$/.exec(one.restore?.command ?? '')?.[1]?.replaceAll("'\\''", "'")
    assert.ok(name && name !== shop)
    assert.deepEqual(digestSqlite(name), digestSqlite(shop))
    assert.equal(one.restore?.basis, 'restores-of-this')
  })

  test('what runs is shown with the command that goes on with it', async () => {
    const operation = await stack.backup({ connection: 'shop', destinations: ['disk'] })
    const one = await ofShop()
    const [running] = one.operations
    assert.equal(running?.id, operation.id)
    assert.equal(running.command, `holdfast operation watch ${operation.id}`)
    assert.equal((await stack.ended(operation.id)).state, 'succeeded')
  })

  test('a backup that is gone, damaged or locked is not called recoverable; the one before is', async () => {
    const older = (await ofShop()).latestBackup?.id
    const newer = await backUp()
    const manifest = join(disk, 'shop/backups', newer, 'manifest.json')
    await rename(manifest, `${manifest}.away`)
    const gone = await ofShop()
    assert.equal(gone.latestBackup?.id, older)
    assert.deepEqual(codes(gone), ['manifest.missing'])
    assert.equal((await cli('status', 'shop')).code, 2)
    await rename(`${manifest}.away`, manifest)

    const key = join(stack.home, 'keys/default.json')
    await rename(key, join(stack.directory, 'default.json'))
    const locked = await ofShop()
    assert.equal(locked.latestBackup, null)
    assert.ok(codes(locked).includes('key.missing'))
    await rename(join(stack.directory, 'default.json'), key)
    assert.equal((await ofShop()).latestBackup?.id, newer)
  })

  test('a destination that is away is said once for itself and with what lies there', async () => {
    await rename(disk, `${disk}.away`)
    const now = await status()
    assert.equal(now.destinations[0]?.reachable, false)
    const [one] = now.databases
    assert.equal(one?.level, 'critical')
    assert.equal(one.latestBackup?.seen, null)
    const { code, stdout } = await cli('status')
    assert.equal(code, 2)
    assert.match(stdout, /destinations: disk away/)
    assert.match(stdout, /\$ holdfast destination check disk/)
    await rename(`${disk}.away`, disk)
    assert.equal((await status()).level, 'healthy')
  })

  test('what is parked is said with the command that resumes it, and resumed by it; the wait does not count as work', async () => {
    await rename(disk, `${disk}.away`)
    const { id } = await stack.backup({ connection: 'shop', destinations: ['disk'], unattended: true })
    await stack.parked(id)
    await rename(`${disk}.away`, disk)
    const one = await ofShop()
    assert.equal(one.level, 'warning')
    assert.deepEqual(codes(one), ['destination.missing'])
    const { stdout } = await cli('status')
    assert.match(stdout, /backup parked.*since/)
    const shown = /^ +\$ holdfast (operation resume \S+)$/m.exec(stdout)?.[1]
    assert.equal(shown, `operation resume ${id}`, stdout)
    assert.equal((await cli(...shown.split(' '))).code, 0)
    const ended = await stack.ended(id)
    assert.equal(ended.state, 'succeeded', JSON.stringify(ended.error))
    assert.ok(ended.phases.some(phase => (phase.heldMs ?? 0) > 0))
    assert.equal((await ofShop()).level, 'healthy')
  })

  test('a schedule: what comes next; paused, it is said', async () => {
    const spec = { at: ['02:30'], timeZone: 'Europe/Berlin' }
    await stack.expectOk('POST', '/v1/schedules', {
      name: 'nightly',
      connection: 'shop',
      destinations: ['disk'],
      spec,
    })
    const one = await ofShop()
    assert.equal(one.level, 'healthy', JSON.stringify(one.problems))
    const [schedule] = one.schedules
    assert.equal(schedule?.name, 'nightly')
    assert.match(schedule.next ?? '', /T0[01]:30:00\.000Z$/)
    assert.match((await cli('status')).stdout, /next backup \d{4}-\d\d-\d\d .*nightly/)
    await stack.expectOk('POST', '/v1/schedules/nightly/pause', { note: 'moving house' })
    const paused = await ofShop()
    assert.deepEqual(codes(paused), ['schedule.paused'])
    assert.match(paused.problems[0]?.detail ?? '', /moving house/)
    assert.equal((await cli('status')).code, 1)
    await stack.call('DELETE', '/v1/schedules/nightly')
    assert.equal((await ofShop()).level, 'healthy')
  })

  test('the last failure stays until a backup succeeds', async () => {
    await rename(shop, `${shop}.away`)
    const failed = await stack.ended((await stack.backup({ connection: 'shop', destinations: ['disk'] })).id)
    assert.equal(failed.state, 'failed')
    const one = await ofShop()
    assert.equal(one.level, 'warning')
    assert.deepEqual(codes(one), [failed.error?.code])
    assert.equal((await cli('status')).code, 1)
    await rename(`${shop}.away`, shop)
    await backUp()
    assert.equal((await ofShop()).level, 'healthy')
  })

  test('backups whose connection is gone are shown with what to do', async () => {
    await stack.call('DELETE', '/v1/connections/shop')
    const one = await ofShop()
    assert.equal(one.address, null)
    assert.equal(one.level, 'warning')
    assert.ok(one.latestBackup)
    await rm(shop, { force: true })
  })
})
