import assert from 'node:assert/strict'
import { readdir, readFile, readlink } from 'node:fs/promises'
import { join } from 'node:path'
import { finished } from 'node:stream/promises'
import { test } from 'node:test'
import type { Command } from '../../engines/engine.ts'
import { eventually, group, groupGone, identity, lines, open, scratch, shells } from './support.ts'

const job = { operation: 'op', step: 'step', token: 'a1' }
const noSecret = { connection: 'shop', field: 'password' }

/** Jobs remove what is theirs a moment after their result where a worker was not there to wait. */
const nothingLeft = (root: string) =>
  eventually('the job directory to be empty', async () =>
    (await readdir(join(root, 'jobs'))).length === 0 ? true : undefined,
  )

for (const shell of await shells()) {
  const name = shell.join(' ').replace(/^\/.*\//, '')

  test(`${name}: exits of every stage, output and the reasons`, async () => {
    await using place = await scratch()
    const host = await open(place.path, shell)
    const run = (command: Command) => host.run(job, command)

    assert.deepEqual(await run(lines('echo out; echo why >&2; exit 3')), {
      exits: [3],
      stdout: 'out\n',
      stderrTail: 'why',
    })
    assert.deepEqual((await run(lines('echo a', 'cat; exit 9', 'cat'))).exits, [0, 9, 0])
    assert.deepEqual((await run(lines('kill -KILL $$', 'cat; kill -TERM $$', 'cat'))).exits, [137, 143, 0])
    // An endless writer ends with its reader.
    assert.deepEqual(await run(lines('yes', 'head -n 1')), { exits: [141, 0], stdout: 'y\n', stderrTail: '' })
    const missing = await run({ stages: [{ argv: ['echo', 'x'] }, { argv: ['no-such-program'] }] })
    assert.equal(missing.exits[1], 127)
    assert.match(missing.stderrTail, /no-such-program/)
    assert.equal((await run({ stages: [{ argv: ['/etc/passwd'] }] })).exits[0], 126)
    // Who failed comes first, and of much only the end is kept.
    const told = await run(
      lines('echo first >&2', 'cat; seq 100000 >&2; echo broken >&2; exit 1', 'cat; echo last >&2'),
    )
    assert.match(told.stderrTail, /^\d*\n[\d\n]*broken/)
    assert.ok(told.stderrTail.length <= 8192)
    await nothingLeft(place.path)
  })

  test(`${name}: arguments, environment, directory and input arrive as they are`, async () => {
    await using place = await scratch()
    const host = await open(join(place.path, "it's a $(place)\n;"), shell)
    const odd = ["a'b", '$(touch x)', '', '-n', '\\', 'zwei\nZeilen\n', 'Ünïcödé 😀', '*', '`id`', '!', ' ']
    const argv = ['sh', '-c', 'printf "<%s>" "$@"; printf "[%s]" "$ODD"; pwd -P; cat', 'x', ...odd] as const
    const result = await host.run(job, {
      input: "select 'x';\n",
      stages: [{ argv, env: { ODD: odd.join('|') } }],
    })
    const directory = `${host.stagingRoot}/data/op`
    assert.equal(
      result.stdout,
      `${odd.map(word => `<${word}>`).join('')}[${odd.join('|')}]${directory}\nselect 'x';\n`,
    )
    // Shell builtins and functions of the wrapper are not programs.
    assert.equal((await host.run(job, { stages: [{ argv: ['hf_main'] }] })).exits[0], 127)
    assert.equal((await host.run(job, { stages: [{ argv: ['echo', '-n', 'a\\nb'] }] })).stdout, 'a\\nb')
    // One stage's environment is not another's.
    const two = await host.run(job, {
      stages: [{ argv: ['true'], env: { MINE: '1' } }, { argv: ['sh', '-c', 'echo "$MINE"'] }],
    })
    assert.equal(two.stdout, '\n')
  })

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

  test(`${name}: stop ends all stages, also those that do not want to`, async () => {
    await using place = await scratch()
    const host = await open(place.path, shell)
    const running = await host.stream(
      job,
      lines('trap "" TERM; echo ready; while :; do sleep 1; done', 'cat'),
    )
    const [leader] = await identity(host, 'op/step-a1')
    await new Promise(resolve => running.stdout.once('data', resolve))
    await running.stop()
    assert.deepEqual(await group(leader), [])
    assert.ok((await running.result).exits.every(exit => exit >= 128))
    await nothingLeft(place.path)
  })

  test(`${name}: a feed ends only when that is said`, async () => {
    await using place = await scratch()
    const host = await open(place.path, shell)
    const command = lines('cat > got; echo finished >> got', 'cat')
    const fed = await host.feed(job, command)
    fed.stdin.write('data\n')
    await fed.complete()
    assert.deepEqual((await fed.result).exits, [0, 0])
    assert.equal(await readFile(join(host.stagingDir('op'), 'got'), 'utf8'), 'data\nfinished\n')

    const cut = await host.feed(job, lines('cat > cut; echo finished >> cut'))
    cut.stdin.end('half\n')
    await finished(cut.stdin)
    await eventually('the data', async () =>
      (await host.files.readSmall(join(host.stagingDir('op'), 'cut'))) === 'half\n' ? true : undefined,
    )
    await cut.stop()
    assert.notEqual((await cut.result).exits[0], 0)
    assert.equal(await readFile(join(host.stagingDir('op'), 'cut'), 'utf8'), 'half\n')
  })
}

test('big outputs: streamed whole, captured up to a limit', async () => {
  await using place = await scratch()
  const host = await open(place.path)
  const running = await host.stream(job, lines('head -c 200000000 /dev/zero', 'cat'))
  let bytes = 0
  for await (const chunk of running.stdout) bytes += chunk.length
  assert.equal(bytes, 200_000_000)
  assert.deepEqual((await running.result).exits, [0, 0])
  assert.equal((await host.run(job, lines('head -c 4194304 /dev/zero'))).stdout.length, 4_194_304)
  await assert.rejects(host.run(job, lines('head -c 4194305 /dev/zero')), { code: 'tool.failed' })
})

test('output that is read late is read whole; output that is thrown away ends the job', async () => {
  await using place = await scratch()
  const host = await open(place.path)
  const late = await host.stream(job, lines('echo early'))
  await eventually('the exit', async () => {
    const [, , , run] = await identity(host, 'op/step-a1')
    return (
      (await host.files.readSmall(`${place.path}/jobs/op/step-a1/${run}/exit`))?.startsWith('exits') ||
      undefined
    )
  })
  let text = ''
  for await (const chunk of late.stdout) text += chunk
  assert.equal(text, 'early\n')
  assert.deepEqual((await late.result).exits, [0])

  const thrown = await host.stream(job, lines('yes'))
  thrown.stdout.destroy()
  // 141, or the program's own word for a connection that was reset.
  assert.notEqual((await thrown.result).exits[0], 0)
})

test('a program that moves small pieces gets larger buffers where the host can give them', async () => {
  await using place = await scratch()
  const host = await open(place.path)
  const run = async (script: string, env: Record<string, string> = {}) => {
    const answer = await host.run(job, {
      stages: [{ argv: ['/bin/sh', '-c', script], env, smallPieces: true }],
    })
    return { exits: answer.exits, stdout: answer.stdout }
  }
  assert.deepEqual(await run('echo "$_STDBUF_I $_STDBUF_O"'), { exits: [0], stdout: '65536 65536\n' })
  // Where there is no stdbuf it runs as it is.
  assert.deepEqual(await run('echo "$_STDBUF_O"', { PATH: '/nowhere' }), { exits: [0], stdout: '\n' })
  const missing = await host.run(job, { stages: [{ argv: ['no-such-program'], smallPieces: true }] })
  assert.deepEqual(missing.exits, [127])
  assert.match(missing.stderrTail, /no-such-program/)
})

test('a program that leaves early breaks the feed, and its exit is known', async () => {
  await using place = await scratch()
  const host = await open(place.path)
  const fed = await host.feed(job, lines('head -c 5 > /dev/null; exit 7'))
  const error = new Promise<NodeJS.ErrnoException>(resolve => fed.stdin.once('error', resolve))
  const write = () => {
    if (!fed.stdin.destroyed) fed.stdin.write(Buffer.alloc(65536), cause => cause || setImmediate(write))
  }
  write()
  assert.equal((await error).code, 'EPIPE')
  assert.deepEqual((await fed.result).exits, [7])
  await assert.rejects(fed.complete(), { code: 'tool.interrupted' })
})

test('a deadline, a cancellation', async () => {
  await using place = await scratch()
  const host = await open(place.path)
  await assert.rejects(
    host.run(job, lines('echo why >&2; sleep 600'), { timeoutSeconds: 0.5 }),
    (error: Error & { context?: { stderrTail?: string }; code?: string }) =>
      error.code === 'tool.interrupted' && error.context?.stderrTail === 'why',
  )
  const controller = new AbortController()
  const running = host.run(job, lines('trap "exit 0" TERM; sleep 600'), { signal: controller.signal })
  const [leader] = await identity(host, 'op/step-a1')
  controller.abort(new Error('enough'))
  await assert.rejects(running, /enough/)
  await groupGone(leader)
  await assert.rejects(host.run(job, lines('true'), { signal: controller.signal }), /enough/)
})

test('who obeys a stop with exit 0 has not succeeded', async () => {
  await using place = await scratch()
  const host = await open(place.path)
  const running = await host.stream(job, lines('trap "exit 0" TERM; echo ready; while :; do sleep 0.1; done'))
  await new Promise(resolve => running.stdout.once('data', resolve))
  await host.stopOperation('op')
  running.stdout.resume()
  assert.deepEqual((await running.result).exits, [143])
})

test('a wrapper that is killed takes its group along, and the result says lost', async () => {
  await using place = await scratch()
  const host = await open(place.path)
  const running = await host.stream(job, lines('echo ready; sleep 600', 'cat'))
  await new Promise(resolve => running.stdout.once('data', resolve))
  const [leader] = await identity(host, 'op/step-a1')
  process.kill(leader, 'SIGKILL')
  await assert.rejects(running.result, { code: 'host.job-lost' })
  assert.deepEqual(await group(leader), [])
})

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

test('hostile names and commands are refused before anything runs', async () => {
  await using place = await scratch()
  const host = await open(place.path)
  const refused = (command: Command, id = job) =>
    assert.rejects(host.run(id, command, { secrets: {} }), /cannot be|holds a NUL|no value/)
  await refused(lines('true'), { ...job, operation: '../x' })
  await refused(lines('true'), { ...job, operation: '..' })
  await refused(lines('true'), { ...job, token: 'a/b' })
  await refused({ stages: [{ argv: ['-c'] }] })
  await refused({ stages: [{ argv: [''] }] })
  await refused({ stages: [{ argv: ['true', 'a\0b'] }] })
  await refused({ stages: [{ argv: ['true'], env: { 'A;id': 'x' } }] })
  await refused({ stages: [{ argv: ['true'], env: { PPID: 'x' } }] })
  await refused({ stages: [{ argv: ['true'], secretEnv: { PGPASSWORD: noSecret } }] })
  await nothingLeft(place.path)
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
