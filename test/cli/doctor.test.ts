/** `holdfast doctor`: what is missing, what is wrong with files and services, which settings are in force. */
import assert from 'node:assert/strict'
import { existsSync } from 'node:fs'
import { chmod, mkdir, mkdtemp, readdir, rename, rm, writeFile } from 'node:fs/promises'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import type { Finding } from '../../cli/doctor/findings.ts'
import type { EffectiveSetting } from '../../cli/doctor/settings.ts'
import { installLine, packageManager, toolFindings } from '../../cli/doctor/tools.ts'
import { postgresql } from '../../engines/postgresql/index.ts'
import type { ConnectionView } from '../../model/views.ts'
import { startTestApi, type TestApi } from '../api/support.ts'
import { holdfast } from './run.ts'

const main = join(import.meta.dirname, '../../cli/main.ts')

describe('doctor', () => {
  let folder = ''
  let api: TestApi
  /** Without the launcher, which needs programs on PATH itself. */
  const doctor = async (extra: Record<string, string | undefined> = {}, ...args: string[]) => {
    const { code, stdout, stderr } = await holdfast([main, 'doctor', '--json', ...args], {
      program: process.execPath,
      cwd: folder,
      env: { XDG_CONFIG_HOME: folder, ...extra },
    })
    assert.equal(stderr, '')
    const { findings, settings } = JSON.parse(stdout) as { findings: Finding[]; settings: EffectiveSetting[] }
    const row = (title: string) => {
      const found = findings.find(one => one.title === title)
      assert.ok(found, `${title}: ${stdout}`)
      return found
    }
    return { code, stdout, row, findings, setting: (name: string) => settings.find(one => one.name === name) }
  }

  before(async () => {
    folder = await mkdtemp(join(tmpdir(), 'holdfast-doctor-'))
    api = await startTestApi()
  })
  after(async () => {
    await api.stop()
    await rm(folder, { recursive: true, force: true })
  })

  test('with nothing at all: says what to do, makes nothing', async () => {
    const home = join(folder, 'none')
    const found = await doctor({
      HOLDFAST_HOME: home,
      HOLDFAST_API_LISTEN: '127.0.0.1:0',
      PATH: '/nowhere',
      HOME: folder,
    })
    assert.equal(found.code, 1, found.stdout)
    for (const program of [
      'zstd',
      'pzstd',
      'sqlite3',
      'psql',
      'pg_dump',
      'pg_restore',
      'pg_basebackup',
      'temporal',
      'home',
      'api',
    ]) {
      assert.equal(found.row(program).answer, 'warn', program)
      assert.ok(found.row(program).hint, program)
    }
    assert.equal(found.row('node').answer, 'pass')
    assert.equal(existsSync(home), false)
    assert.deepEqual(await readdir(folder), [])
  })

  test('for people: marks, what to do, 80 columns, no colour in a pipe', async () => {
    const { code, stdout } = await holdfast(['doctor'], {
      env: { HOLDFAST_HOME: join(folder, 'none'), HOLDFAST_API_LISTEN: '127.0.0.1:0' },
    })
    assert.equal(code, 1)
    assert.match(stdout, /\nfiles\n {2}! home .* is not there yet/)
    assert.match(stdout, /\n +→ .*holdfast up/)
    assert.match(stdout, /HOLDFAST_API_LISTEN=127\.0\.0\.1:0 {2}\(environment\)/)
    assert.match(stdout, /\d+ well, \d+ to know, 0 to mend\n$/)
    assert.ok(!stdout.includes('\u001b'))
    const long = stdout.split('\n').filter(line => line.length > 80 && line.includes(' '.repeat(10)))
    assert.deepEqual(
      long.filter(line => line.trim().includes(' ')),
      [],
    )
  })

  test('how to get a program, on the systems there are', () => {
    const [tool] = postgresql.tools
    assert.ok(tool)
    const line = (platform: string, release: string) => installLine(packageManager(platform, release), tool)
    assert.equal(line('linux', 'NAME=x\nID=debian\n'), 'apt-get install -y postgresql-client')
    assert.equal(line('linux', 'ID=mint\nID_LIKE="ubuntu debian"\n'), 'apt-get install -y postgresql-client')
    assert.equal(line('linux', 'ID="rocky"\nID_LIKE="rhel centos fedora"\n'), 'dnf install -y postgresql')
    assert.equal(line('linux', 'ID=alpine\n'), 'apk add postgresql-client')
    assert.equal(line('darwin', ''), 'brew install libpq')
    assert.match(line('linux', 'ID=gentoo'), /package manager/)
  })

  test('a tool that is older than a server, or missing while it is needed, or broken', async () => {
    const bin = join(folder, 'bin')
    await mkdir(bin)
    const program = async (name: string, text: string) => {
      await writeFile(join(bin, name), `#!/bin/sh\n${text}\n`, { mode: 0o755 })
    }
    await program('psql', 'echo "psql (PostgreSQL) 15.20 (Debian 15.20-0+deb12u1)"')
    await program('pg_dump', 'echo "pg_dump (PostgreSQL) 15.20 (Debian 15.20-0+deb12u1)"')
    await program('sqlite3', 'exit 3')
    const connection = (name: string, serverVersion: string) =>
      ({ name, engine: 'postgresql', serverVersion }) as ConnectionView
    const rows = await toolFindings({ PATH: bin }, [
      connection('shop', '17.2'),
      connection('crm', '15.3 (Debian)'),
    ])
    const of = (title: string) => rows.find(one => one.title === title)
    assert.equal(of('pg_dump')?.answer, 'fail')
    assert.match(of('pg_dump')?.detail ?? '', /older than the server of shop \(17\.2\)\.$/)
    assert.equal(of('pg_restore')?.answer, 'fail')
    assert.equal(of('sqlite3')?.answer, 'fail')
    assert.match(of('sqlite3')?.detail ?? '', /does not run/)
    const fitting = await toolFindings({ PATH: bin }, [connection('crm', '15.3')])
    assert.equal(fitting.find(one => one.title === 'pg_dump')?.answer, 'pass')
  })

  test('settings: where each comes from, and no secret', async () => {
    const key = join(folder, 'api-key')
    await writeFile(key, 'canary-93')
    const found = await doctor(
      {
        HOLDFAST_SECRET_KEY: 'canary-90',
        HOLDFAST_TOKEN: 'canary-91',
        HOLDFAST_CATALOG_URL: 'postgres://holdfast:canary-92@db/holdfast',
        HOLDFAST_TEMPORAL_API_KEY_FILE: key,
        HOLDFAST_API_LISTEN: '127.0.0.1:0',
      },
      '--home',
      join(folder, 'elsewhere'),
    )
    assert.ok(!found.stdout.includes('canary-9'))
    const origin = (name: string) => [found.setting(name)?.value, found.setting(name)?.origin]
    assert.deepEqual(origin('HOLDFAST_SECRET_KEY'), ['***', 'environment'])
    assert.deepEqual(origin('HOLDFAST_CATALOG_URL'), ['postgres://holdfast:***@db/holdfast', 'environment'])
    assert.deepEqual(origin('HOLDFAST_TEMPORAL_API_KEY'), ['***', `file ${key}`])
    assert.deepEqual(origin('HOLDFAST_HOME'), [join(folder, 'elsewhere'), 'flag'])
    assert.deepEqual(origin('HOLDFAST_LOG_LEVEL'), ['info', 'default'])
    assert.deepEqual(origin('HOLDFAST_TOKEN'), ['*** (HOLDFAST_TOKEN)', 'environment'])
    const wrong = await doctor({ HOLDFAST_LOG_LEVEL: 'loud' })
    assert.equal(wrong.code, 2)
    assert.match(wrong.row('settings').detail, /HOLDFAST_LOG_LEVEL/)
  })

  test('a living API: its token, its files, its port; Temporal away is said', async () => {
    await api.addSqlite('shop')
    const env = {
      HOLDFAST_HOME: api.home,
      HOLDFAST_URL: api.api.url,
      HOLDFAST_TEMPORAL_ADDRESS: '127.0.0.1:1',
    }
    const found = await doctor(env)
    assert.equal(found.code, 2)
    assert.equal(found.row('temporal').answer, 'pass', 'the program is not needed then')
    const away = found.findings.filter(one => one.section === 'temporal')
    assert.deepEqual(
      away.map(one => one.answer),
      ['fail'],
    )
    for (const title of ['api', 'secret key', 'api token', 'worker token', 'catalog', 'sqlite3']) {
      assert.equal(found.row(title).answer, 'pass', found.row(title).detail)
    }
    assert.match(found.row('catalog').detail, /in use by its API/)
    assert.equal(found.findings.find(one => one.section === 'clocks')?.answer, 'pass')

    const refused = await doctor({ ...env, HOLDFAST_TOKEN: 'wrong-token-of-somebody' })
    const row = refused.findings.find(one => one.section === 'api')
    assert.equal(row?.answer, 'fail')
    assert.match(row.detail, /valid token/)
  })

  test('files that others may read, a key that is gone, a port that is taken', async () => {
    const env = { HOLDFAST_HOME: api.home, HOLDFAST_URL: 'http://127.0.0.1:9' }
    const token = join(api.home, 'api.token')
    await api.call('POST', '/v1/keys', { name: 'default' })
    await chmod(join(api.home, 'keys/default.json'), 0o644)
    await chmod(token, 0o640)
    const server = createServer()
    await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
    const address = server.address()
    assert.ok(address !== null && typeof address === 'object')
    await rename(join(api.home, 'secret.key'), join(api.home, 'secret.away'))
    try {
      const found = await doctor({ ...env, HOLDFAST_API_LISTEN: `127.0.0.1:${address.port}` })
      assert.equal(found.code, 2)
      assert.equal(found.row('keys').hint, `chmod 600 ${join(api.home, 'keys/default.json')}`)
      assert.equal(found.row('api token').hint, `chmod 600 ${token}`)
      assert.equal(found.row('secret key').answer, 'fail')
      assert.equal(found.row('api port').answer, 'fail')
      assert.match(found.row('api port').detail, /taken by another program/)
    } finally {
      server.close()
      await rename(join(api.home, 'secret.away'), join(api.home, 'secret.key'))
    }
  })
})
