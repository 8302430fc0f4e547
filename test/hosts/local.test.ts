/** The worker's own machine: what every host does, and what only this one has. */
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdir, readdir, readFile, readlink, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import { jobScript } from '../../hosts/script.ts'
import { attachedBasics } from './conformance-attached.ts'
import { detachedBasics } from './conformance-detached.ts'
import { secrets } from './conformance-secrets.ts'
import { local } from './subject.ts'
import { eventually, group, identity, lines, open, processes, scratch, shells } from './support.ts'

const job = { operation: 'op', step: 'step', token: 'a1' }

for (const shell of await shells()) {
  const subject = local(shell)
  const { name } = subject
  attachedBasics(subject)
  detachedBasics(subject)
  secrets(subject)

  test(`${name}: a program has three descriptors and its own locale, and ends by TERM`, async () => {
    await using place = await scratch()
    const host = await open(place.path, shell)
    const look = 'ls /proc/self/fd; grep -E "SigIgn|SigBlk" /proc/self/status; echo "$LC_ALL"'
    process.env.LC_ALL = 'C.UTF-8'
    try {
      const got = (await host.run(job, lines(look, 'cat'))).stdout.split('\n')
      // `ls` itself opens 3; descriptors that this test inherited are none of the wrapper's.
      const inherited = (await readdir('/proc/self/fd')).filter(fd => Number(fd) > 100)
      assert.deepEqual(got.filter(line => /^\d+$/.test(line) && !inherited.includes(line)).sort(), [
        '0',
        '1',
        '2',
        '3',
      ])
      assert.deepEqual(
        got.filter(line => line.startsWith('Sig')).map(line => line.replace(/\s+/, ' ')),
        ['SigBlk: 0000000000000000', 'SigIgn: 0000000000000000'],
      )
      assert.ok(got.includes('C.UTF-8'))
    } finally {
      delete process.env.LC_ALL
    }
  })

  test(`${name}: a watcher that no signal reached does not hold up the end of its job`, async () => {
    await using place = await scratch()
    const [directory, data] = [join(place.path, 'jobs/op/step-a1/r-one'), join(place.path, 'data')]
    await mkdir(directory, { recursive: true })
    await mkdir(data)
    const script = jobScript({
      mode: 'attached',
      jobDirectory: join(directory, '..'),
      run: 'r-one',
      workDirectory: data,
      shell,
      command: lines('echo out'),
      feeds: false,
      fence: 0,
      // Far longer than the test may take.
      link: { patienceSeconds: 3600, endMark: '' },
    })
    // As it goes when the signal comes before a shell that was just forked has set its traps.
    const deaf = script.replace('kill -s TERM "$hf_watcher"', ': "$hf_watcher"')
    assert.notEqual(deaf, script)
    await writeFile(join(directory, 'script'), deaf)
    await writeFile(join(directory, 'exit'), 'not yet\n'.repeat(64))
    await writeFile(join(directory, 'stderr.0'), '')
    const [program, ...words] = shell
    const child = spawn(program, [...words, join(directory, 'script')], {
      detached: true,
      stdio: ['pipe', 'pipe', 'pipe'],
      timeout: 30_000,
      killSignal: 'SIGKILL',
    })
    child.stdout.resume()
    child.stderr.setEncoding('utf8').on('data', (said: string) => {
      if (said.includes('exits 0')) child.stdin.end()
    })
    const [code] = await once(child, 'exit')
    for (const left of await group(child.pid ?? 0)) process.kill(left.pid, 'SIGKILL')
    assert.equal(code, 0)
    assert.deepEqual(await readdir(join(place.path, 'jobs')), [])
  })
}

test('no descriptor and no zombie is left after many jobs', async () => {
  await using place = await scratch()
  const host = await open(place.path)
  const count = async () => {
    const names = await readdir('/proc/self/fd')
    const links = await Promise.all(names.map(fd => readlink(`/proc/self/fd/${fd}`).catch(() => '')))
    return links.filter(link => link.startsWith('socket') || link.startsWith('/')).length
  }
  await host.run(job, lines('true'))
  const before = await count()
  for (let round = 0; round < 5; round += 1) {
    await Promise.all(
      Array.from({ length: 4 }, (_, index) =>
        host.run({ ...job, token: `t${index}` }, lines('echo x', 'cat')),
      ),
    )
    const fed = await host.feed(job, lines('cat'))
    await fed.complete()
    await fed.result
  }
  await eventually('descriptors to be closed', async () => ((await count()) <= before ? true : undefined))
  const children = await readFile(`/proc/self/task/${process.pid}/children`, 'utf8').catch(() => '')
  for (const pid of children.split(' ').filter(Boolean)) {
    assert.doesNotMatch(await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => ''), /\) Z /)
  }
})

test('a program in PATH, its version, and one that is not there', async () => {
  await using place = await scratch()
  const host = await open(place.path)
  const node = await host.tool(process.execPath)
  assert.deepEqual(node, { path: process.execPath, version: process.version })
  assert.match((await host.tool('bash'))?.path ?? '', /^\/.*\/bash$/)
  assert.equal(await host.tool('no-such-program'), undefined)
  assert.equal(await host.tool('/no/such/program'), undefined)
})

test('a wrapper that is no session leader makes itself one', async () => {
  await using place = await scratch()
  const host = await open(place.path)
  const path = 'op/step-a1'
  await host.jobs.start(job, lines('exit 8'), { fence: 1 })
  await eventually('its end', async () =>
    (await host.jobs.status(job)).state === 'running' ? undefined : true,
  )
  // The same script, started as a plain child would be over a link that makes no session.
  const [, , , run] = await identity(host, path)
  const directory = join(place.path, 'jobs', path)
  const script = await readFile(join(directory, run, 'script'), 'utf8')
  const other = join(directory, 'r-second')
  await mkdir(other)
  await writeFile(
    join(other, 'script'),
    script.replaceAll(run, 'r-second').replace("'exit 8'", "'sleep 600'"),
  )
  await writeFile(join(other, 'exit'), 'not yet\n')
  await writeFile(join(other, 'stderr.0'), '')
  await rm(join(directory, run, 'exit'))
  const plain = spawn('sh', [join(other, 'script')], { stdio: 'ignore' })
  const leader = await eventually('the second run', async () => {
    const second = (await readdir(directory)).includes('elected-2')
    return second ? (await identity(host, path))[0] : undefined
  })
  const own = (await processes()).find(one => one.pid === process.pid)
  assert.notEqual(leader, own?.group)
  await eventually('the program', async () => ((await group(leader)).length > 2 ? true : undefined))
  await host.stopOperation('op')
  assert.deepEqual(await group(leader), [])
  if (plain.exitCode === null && plain.signalCode === null)
    await new Promise(resolve => plain.once('exit', resolve))
})

test("the worker's own environment is not the programs'", async () => {
  await using place = await scratch()
  const host = await open(place.path)
  process.env.HOLDFAST_TOKEN = 'hidden'
  process.env.PGPASSWORD = 'hidden'
  try {
    const { stdout } = await host.run(
      { operation: 'op', step: 'env', token: 'a' },
      { stages: [{ argv: ['env'] }] },
    )
    assert.doesNotMatch(stdout, /hidden/)
    assert.match(stdout, /^PATH=/m)
  } finally {
    delete process.env.HOLDFAST_TOKEN
    delete process.env.PGPASSWORD
  }
})
