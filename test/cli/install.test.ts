import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { appendFile, chmod, mkdir, mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, beforeEach, describe, test } from 'node:test'
import { promisify } from 'node:util'
import { freePort } from '../../cli/free-port.ts'
import { agentUnit, unitTexts } from '../../cli/install/units.ts'
import { ensureTemporal } from '../../cli/temporal-binary.ts'
import packageJson from '../../package.json' with { type: 'json' }
import { eventually, holdfast, launcher, start } from './run.ts'

const run = promisify(execFile)
const canary = 'canary-of-an-installed-secret'
const own = {
  HOLDFAST_TEMPORAL_ADDRESS: 'temporal.example:7233',
  HOLDFAST_TEMPORAL_NAMESPACE: 'backups',
  HOLDFAST_CATALOG_URL: `postgres://holdfast:${canary}@db.example/holdfast`,
  HOLDFAST_API_LISTEN: '127.0.0.1:7777',
}
const units = '/etc/systemd/system'

/** Everything below a directory: path → mode and text. */
async function snapshot(root: string): Promise<Record<string, string>> {
  const found: Record<string, string> = {}
  for (const entry of await readdir(root, { recursive: true, withFileTypes: true })) {
    const path = join(entry.parentPath, entry.name)
    if (!entry.isFile()) continue
    found[path.slice(root.length)] =
      `${((await stat(path)).mode & 0o777).toString(8)} ${await readFile(path, 'latin1')}`
  }
  return found
}

describe('holdfast install', () => {
  let directory: string
  let root: string
  before(async () => {
    directory = await mkdtemp(join(tmpdir(), 'holdfast-install-'))
  })
  after(() => rm(directory, { recursive: true, force: true }))
  beforeEach(async () => {
    root = await mkdtemp(join(directory, 'root-'))
  })

  const install = (env: Record<string, string> = own, ...args: string[]) =>
    holdfast(['install', '--root', root, ...args], { env })
  const ok = async (env: Record<string, string> = own, ...args: string[]) => {
    const done = await install(env, ...args)
    assert.equal(done.code, 0, done.stderr)
    assert.ok(!`${done.stdout}${done.stderr}`.includes(canary), 'a secret was shown')
    return done.stdout
  }

  test('a dry run shows every file and command, and does nothing', async () => {
    const shown = await ok(own, '--dry-run')
    assert.deepEqual(await snapshot(root), {})
    for (const wanted of [
      `write  ${root}${units}/holdfast-api.service`,
      `write  ${root}${units}/holdfast-worker.service`,
      `write  ${root}/etc/sysusers.d/holdfast.conf`,
      `write  ${root}/etc/holdfast/holdfast.env`,
      `write  ${root}/etc/holdfast/credentials/catalog-url`,
      `run    systemd-sysusers --root=${root} holdfast.conf`,
      `run    systemctl --root=${root} enable holdfast-api.service holdfast-worker.service`,
      `  | ExecStart=${launcher} api`,
      '  | HOLDFAST_TEMPORAL_ADDRESS=temporal.example:7233',
      '  | (a secret)',
    ]) {
      assert.ok(shown.includes(wanted), `${wanted}\nis not in\n${shown}`)
    }
    assert.ok(!shown.includes('holdfast-temporal'), 'with a Temporal of one’s own none is installed')
  })

  test('writes what it showed; done again, it changes nothing', async () => {
    const writable = ['--writable', '/srv/data', '--writable', '/srv/with blank 100%']
    const shown = JSON.parse(await ok(own, '--dry-run', '--json', ...writable)) as {
      steps: { do: string; path: string; text: string; mode: number; secret: boolean }[]
    }
    await ok(own, ...writable)
    const first = await snapshot(root)
    assert.match(
      first[`${units}/holdfast-worker.service`] ?? '',
      /^ReadWritePaths="\/srv\/with blank 100%%"$/m,
    )
    for (const step of shown.steps.filter(one => one.do === 'write')) {
      const there = first[step.path]
      assert.ok(there, step.path)
      if (!step.secret) assert.equal(there, `${step.mode.toString(8)} ${step.text}`)
    }
    assert.equal(first['/etc/holdfast/credentials/catalog-url'], `600 ${own.HOLDFAST_CATALOG_URL}\n`)
    assert.equal((await stat(join(root, 'etc/holdfast/credentials'))).mode & 0o777, 0o700)
    assert.match(
      first['/etc/passwd'] ?? '',
      /^644 holdfast:x:\d+:\d+:Holdfast:\/var\/lib\/holdfast:\/usr\/sbin\/nologin/,
    )
    const { stdout } = await run('systemctl', [
      `--root=${root}`,
      'is-enabled',
      'holdfast-api',
      'holdfast-worker',
    ])
    assert.equal(stdout, 'enabled\nenabled\n')

    const again = await ok({})
    assert.deepEqual(await snapshot(root), first)
    assert.ok(!again.includes('write '), again)
  })

  test('settings are taken over, edited by hand, and added to later; lines of others stay', async () => {
    await ok()
    const file = join(root, 'etc/holdfast/holdfast.env')
    await appendFile(file, '# mine\nHOLDFAST_LOG_LEVEL=debug\n')
    await ok({ HOLDFAST_API_LISTEN: '127.0.0.1:8888' })
    const text = await readFile(file, 'utf8')
    assert.match(text, /^HOLDFAST_API_LISTEN=127\.0\.0\.1:8888$/m)
    assert.match(text, /^# mine\nHOLDFAST_LOG_LEVEL=debug$/m)
    assert.match(text, /^HOLDFAST_TEMPORAL_NAMESPACE=backups$/m)
    assert.ok(!text.includes(canary))
    const worker = await readFile(join(root, units, 'holdfast-worker.service'), 'utf8')
    assert.ok(!worker.includes('catalog-url'), 'the worker is not given the catalog')
  })

  test('a file of somebody else, or one changed by hand, is refused before anything is written', async () => {
    const path = join(root, units, 'holdfast-worker.service')
    await mkdir(join(root, units), { recursive: true })
    await writeFile(path, '[Service]\nExecStart=/bin/true\n')
    const before = await snapshot(root)
    const foreign = await install()
    assert.equal(foreign.code, 5)
    assert.match(
      foreign.stderr,
      /^error request\.exists: .*holdfast-worker\.service is there, and `holdfast install` did not/,
    )
    assert.deepEqual(await snapshot(root), before)

    await rm(path)
    await ok()
    await appendFile(path, 'Nice=5\n')
    const edited = await install()
    assert.equal(edited.code, 5)
    assert.match(edited.stderr, /was changed by hand.*\nhint: .*systemctl edit/)
    assert.match(await readFile(path, 'utf8'), /Nice=5\n$/)
  })

  test('the status says what is there, from which version, and what was changed', async () => {
    const none = await install({}, '--status')
    assert.equal(none.code, 4)
    assert.match(none.stdout, /Nothing is installed/)
    await ok()
    const path = join(root, units, 'holdfast-api.service')
    const text = await readFile(path, 'utf8')
    await writeFile(path, text.replace(`version ${packageJson.version}`, 'version 0.0.9'))
    await appendFile(join(root, units, 'holdfast-worker.service'), '#\n')
    const status = JSON.parse(await ok({}, '--status', '--json')) as {
      files: { path: string; state: string; version: string }[]
      units: { unit: string; enabled: boolean }[]
    }
    const states = Object.fromEntries(status.files.map(one => [one.path.replace(/.*\//, ''), one.state]))
    assert.deepEqual(states, {
      'holdfast-api.service': 'older',
      'holdfast-worker.service': 'edited',
      'holdfast.conf': 'ours',
    })
    assert.deepEqual(
      status.units.map(one => [one.unit, one.enabled]),
      [
        ['holdfast-api.service', true],
        ['holdfast-worker.service', true],
      ],
    )
    assert.match((await install({}, '--status')).stdout, /holdfast-api\.service +0\.0\.9 +of another version/)
  })

  test('uninstall leaves data and what others wrote; purge asks for the name, and names what goes', async () => {
    await ok()
    await mkdir(join(root, 'var/lib/holdfast/keys'), { recursive: true })
    await writeFile(join(root, 'var/lib/holdfast/keys/default.json'), '{}')
    await writeFile(join(root, units, 'holdfast-own.service'), '[Service]\nExecStart=/bin/true\n')
    const uninstall = (input: string, ...args: string[]) =>
      holdfast(['uninstall', '--root', root, ...args], { input })

    const before = await snapshot(root)
    const dry = await uninstall('', '--purge', '--dry-run')
    assert.match(dry.stdout, /remove .*var\/lib\/holdfast \(KEY FILES: without a copy/)
    assert.deepEqual(await snapshot(root), before)

    const wrong = await uninstall('yes\n', '--purge')
    assert.equal(wrong.code, 3)
    assert.deepEqual(await snapshot(root), before)

    const done = await uninstall('')
    assert.equal(done.code, 0, done.stderr)
    assert.match(done.stdout, /kept .*\/var\/lib\/holdfast\n/)
    assert.match(done.stderr, /left: .*holdfast-own\.service was not written by holdfast install/)
    const left = Object.keys(await snapshot(root))
    assert.ok(left.includes('/var/lib/holdfast/keys/default.json'))
    assert.ok(left.includes('/etc/holdfast/credentials/catalog-url'))
    assert.ok(left.includes(`${units}/holdfast-own.service`))
    assert.deepEqual(
      left.filter(path => path.includes('holdfast-api') || path.includes('holdfast-worker')),
      [],
    )

    await ok({})
    const purged = await uninstall('/var/lib/holdfast\n', '--purge')
    assert.equal(purged.code, 0, purged.stderr)
    const now = Object.keys(await snapshot(root))
    assert.deepEqual(
      now.filter(path => path.includes('holdfast')),
      [`${units}/holdfast-own.service`],
    )
    assert.match((await uninstall('')).stdout, /Nothing is installed/)
  })

  test('a Holdfast that other users cannot read is refused', async () => {
    const { checkProgram } = await import('../../cli/install/machine.ts')
    const hidden = join(directory, 'hidden')
    await mkdir(join(hidden, 'bin'), { recursive: true })
    await writeFile(join(hidden, 'bin/holdfast'), '', { mode: 0o755 })
    await chmod(hidden, 0o700)
    await assert.rejects(checkProgram(hidden), { code: 'request.invalid' })
  })

  const workerAlone = {
    HOLDFAST_TEMPORAL_ADDRESS: 'temporal.example:7233',
    HOLDFAST_URL: 'https://holdfast.example',
    HOLDFAST_MACHINE_WAIT_SECONDS: '60',
  }
  const withToken = async () => {
    const file = join(directory, 'worker.token')
    await writeFile(file, `hf_worker_${canary}\n`)
    return { ...workerAlone, HOLDFAST_WORKER_TOKEN_FILE: file }
  }

  test('a worker alone: its way to the API, its token as a credential, nothing of the API; again keeps it so', async () => {
    const missing = await install(workerAlone, '--part', 'worker')
    assert.equal(missing.code, 2)
    assert.match(missing.stderr, /HOLDFAST_WORKER_TOKEN_FILE is not set/)
    assert.deepEqual(await snapshot(root), {})

    await ok(await withToken(), '--part', 'worker')
    const first = await snapshot(root)
    const names = Object.keys(first).filter(path => path.startsWith(`${units}/holdfast`))
    assert.deepEqual(names, [`${units}/holdfast-worker.service`])
    assert.equal(first['/etc/holdfast/credentials/worker-token'], `600 hf_worker_${canary}\n`)
    const file = first['/etc/holdfast/holdfast.env'] ?? ''
    assert.match(file, /^HOLDFAST_URL=https:\/\/holdfast\.example$/m)
    assert.match(file, /^HOLDFAST_MACHINE_WAIT_SECONDS=60$/m)
    assert.ok(!file.includes(canary))
    const unit = first[`${units}/holdfast-worker.service`] ?? ''
    assert.match(unit, /^LoadCredential=worker-token:\/etc\/holdfast\/credentials\/worker-token$/m)
    assert.match(unit, /^Environment=HOLDFAST_WORKER_TOKEN_FILE=\/run\/credentials\/%n\/worker-token$/m)
    assert.ok(!unit.includes('holdfast-api'))

    await ok({})
    assert.deepEqual(await snapshot(root), first)
    const other = await install({}, '--part', 'api')
    assert.equal(other.code, 5)
    assert.match(other.stderr, /holdfast-worker\.service is installed.*\nhint: .*uninstall/)
    assert.deepEqual(await snapshot(root), first)
  })

  test('a worker that lives on a host of its own; again keeps it there', async () => {
    const refused = await install({}, '--host', 'db1')
    assert.match(refused.stderr, /--part worker/)
    await ok(await withToken(), '--part', 'worker', '--host', 'db1')
    const unit = () => readFile(join(root, units, 'holdfast-worker.service'), 'utf8')
    assert.match(await unit(), /^ExecStart=.*\/bin\/holdfast worker --host db1$/m)
    const again = await ok({})
    assert.match(await unit(), /worker --host db1$/m)
    assert.ok(!again.includes('write '), again)
    assert.match((await install({}, '--host', 'Not one')).stderr, /no name of a host/)
  })

  test('the API alone: with a Temporal that workers elsewhere reach', async () => {
    const alone = await install({}, '--part', 'api')
    assert.equal(alone.code, 2)
    assert.match(alone.stderr, /HOLDFAST_TEMPORAL_ADDRESS is not set/)
    // What the shell says of another Holdfast is not meant for this one.
    await ok({ ...own, HOLDFAST_URL: 'https://elsewhere.example' }, '--part', 'api')
    const there = await snapshot(root)
    assert.deepEqual(
      Object.keys(there).filter(path => path.startsWith(`${units}/holdfast`)),
      [`${units}/holdfast-api.service`],
    )
    assert.ok(!there['/etc/holdfast/holdfast.env']?.includes('elsewhere'))
    assert.ok(!Object.keys(there).some(path => path.endsWith('worker-token')))
    assert.match((await install({}, '--part', 'both')).stderr, /all, api, worker/)
  })

  test('without another Temporal, one is installed beside, and the units run as they are written', async () => {
    await ensureTemporal({ onProgress: text => process.stderr.write(`temporal: ${text}\n`) })
    await ok({ HOLDFAST_API_LISTEN: `127.0.0.1:${await freePort()}` })
    const unit = async (name: string) => readFile(join(root, units, `holdfast-${name}.service`), 'utf8')
    const temporal = /^ExecStart=(\S+) (.*)$/m.exec(await unit('temporal'))
    await run(join(root, temporal?.[1] ?? ''), ['--version'])
    assert.match(temporal?.[2] ?? '', /--db-filename \/var\/lib\/holdfast\/temporal-[\d.]+\.sqlite/)
    assert.match(temporal?.[2] ?? '', /"matching\.longPollExpirationInterval=\\"10s\\""/)

    // What systemd would do, but for the fences: environment, then the file, then the command.
    const text = await unit('api')
    const env: Record<string, string> = {}
    for (const [, line = ''] of text.matchAll(/^Environment=(.*)$/gm)) {
      for (const pair of line.split(' ')) env[pair.replace(/=.*/, '')] = pair.replace(/^[^=]*=/, '')
    }
    const file = await readFile(join(root, 'etc/holdfast/holdfast.env'), 'utf8')
    for (const [, name = '', value = ''] of file.matchAll(/^(HOLDFAST_\w+)=(.*)$/gm)) env[name] = value
    assert.equal(env.HOLDFAST_TEMPORAL_ADDRESS, '127.0.0.1:7461')
    assert.equal(env.HOLDFAST_HOME, '/var/lib/holdfast')
    const [, program = '', args = ''] = /^ExecStart=(\S+) (.*)$/m.exec(text) ?? []
    const api = start(args.split(' '), {
      program,
      env: { ...env, HOLDFAST_HOME: join(root, 'var/lib/holdfast') },
    })
    try {
      await eventually('the API answers', async () => {
        const answer = await fetch(`http://${env.HOLDFAST_API_LISTEN}/healthz`).catch(() => undefined)
        return answer?.ok === true ? true : undefined
      })
    } finally {
      api.child.kill('SIGTERM')
      assert.equal((await api.ended).code, 0)
    }
  })
})

describe('the units', () => {
  let directory: string
  const texts = unitTexts({
    program: '/opt/holdfast',
    part: 'all',
    host: undefined,
    temporal: { program: '/bin/true', serverVersion: '1.29.1', namespace: 'default' },
    secrets: ['HOLDFAST_CATALOG_URL', 'HOLDFAST_TEMPORAL_API_KEY'],
    writable: ['/srv/data', '/srv/with blank'],
  })
  texts['holdfast-wal.service'] = agentUnit('/opt/holdfast', '/etc/holdfast/wal.json', 'root')
  before(async () => {
    directory = await mkdtemp(join(tmpdir(), 'holdfast-units-'))
    await chmod(directory, 0o755)
    for (const [name, text] of Object.entries(texts)) {
      // systemd looks for the program; the one that is installed is elsewhere here.
      await writeFile(join(directory, name), text.replaceAll('/opt/holdfast/bin/holdfast', '/bin/true'))
    }
  })
  after(() => rm(directory, { recursive: true, force: true }))

  before(async () => {
    const there = await run('systemd-analyze', ['--version']).catch(() => undefined)
    if (there === undefined) {
      // Its programs work where another init runs.
      const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive' }
      await run('apt-get', ['install', '-y', '--no-install-recommends', 'systemd'], { env })
    }
  })

  const said = async (...args: string[]): Promise<string> => {
    const done = await run('systemd-analyze', args).catch(
      error => error as { stdout: string; stderr: string },
    )
    return `${done.stdout}${done.stderr}`
  }

  test('systemd finds nothing to say about them, and it does about a wrong one', async () => {
    const paths = Object.keys(texts).map(name => join(directory, name))
    assert.equal(await said('verify', '--man=no', ...paths), '')
    const wrong = join(directory, 'wrong.service')
    await writeFile(wrong, (texts['holdfast-api.service'] ?? '').replace('ProtectClock=', 'ProtectClocks='))
    assert.match(await said('verify', '--man=no', wrong), /ProtectClocks/)
  })

  test("the archiver's end takes nothing of the server's with it", () => {
    assert.match(texts['holdfast-wal.service'] ?? '', /^RemoveIPC=no$/m)
    assert.doesNotMatch(texts['holdfast-wal.service'] ?? '', /^RemoveIPC=yes$/m)
  })

  test('systemd rates their exposure as low', async () => {
    for (const name of Object.keys(texts)) {
      const text = await said('security', '--offline=true', '--threshold=25', join(directory, name))
      const score = Number(/exposure level for \S+: ([\d.]+)/.exec(text)?.[1])
      assert.ok(score > 0 && score <= 2.5, `${name}: ${score}\n${text}`)
    }
  })

  test('a stop of the worker leaves detached tools alone, and hides keys from it', () => {
    const worker = texts['holdfast-worker.service'] ?? ''
    assert.match(worker, /^KillMode=process$/m)
    assert.match(worker, /^OOMPolicy=continue$/m)
    assert.match(worker, /^InaccessiblePaths=.*\/var\/lib\/holdfast\/keys/m)
    assert.match(worker, /^ReadWritePaths="\/srv\/with blank"$/m)
    assert.ok(!worker.includes('catalog-url'))
    const api = texts['holdfast-api.service'] ?? ''
    assert.match(api, /^LoadCredential=catalog-url:\/etc\/holdfast\/credentials\/catalog-url$/m)
    assert.match(api, /^Environment=HOLDFAST_CATALOG_URL_FILE=\/run\/credentials\/%n\/catalog-url$/m)
  })
})
