/** What every host does with attached jobs: run, stream, feed. */
import assert from 'node:assert/strict'
import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { finished } from 'node:stream/promises'
import { test } from 'node:test'
import fc from 'fast-check'
import type { Command } from '../../engines/engine.ts'
import type { Subject } from './subject.ts'
import { eventually, group, groupGone, identity, lines } from './support.ts'

const job = { operation: 'op', step: 'step', token: 'a1' }
const noSecret = { connection: 'shop', field: 'password' }

/** Jobs remove what is theirs a moment after their result where a worker was not there to wait. */
const nothingLeft = (root: string) =>
  eventually('the job directory to be empty', async () =>
    (await readdir(join(root, 'jobs')).catch(() => [])).length === 0 ? true : undefined,
  )

/** With every shell that a server may have. */
export function attachedBasics(subject: Subject): void {
  test(`${subject.name}: exits of every stage, output and the reasons`, async () => {
    await using place = await subject.scratch()
    const host = await subject.open(place.path)
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

  test(`${subject.name}: arguments, environment, directory and input arrive as they are`, async () => {
    await using place = await subject.scratch()
    const host = await subject.open(join(place.path, "it's a $(place)\n;"))
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

  test(`${subject.name}: stop ends all stages, also those that do not want to`, async () => {
    await using place = await subject.scratch()
    const host = await subject.open(place.path)
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

  test(`${subject.name}: a feed ends only when that is said`, async () => {
    await using place = await subject.scratch()
    const host = await subject.open(place.path)
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

export function attachedJobs(subject: Subject): void {
  test(`${subject.name}: big outputs: streamed whole, captured up to a limit`, async () => {
    await using place = await subject.scratch()
    const host = await subject.open(place.path)
    const running = await host.stream(job, lines('head -c 200000000 /dev/zero', 'cat'))
    let bytes = 0
    for await (const chunk of running.stdout) bytes += chunk.length
    assert.equal(bytes, 200_000_000)
    assert.deepEqual((await running.result).exits, [0, 0])
    assert.equal((await host.run(job, lines('head -c 4194304 /dev/zero'))).stdout.length, 4_194_304)
    await assert.rejects(host.run(job, lines('head -c 4194305 /dev/zero')), { code: 'tool.failed' })
  })

  test(`${subject.name}: output that is read late is read whole; output that is thrown away ends the job`, async () => {
    await using place = await subject.scratch()
    const host = await subject.open(place.path)
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

  test(`${subject.name}: a program that moves small pieces gets larger buffers where the host can give them`, async () => {
    await using place = await subject.scratch()
    const host = await subject.open(place.path)
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

  test(`${subject.name}: a program that leaves early breaks the feed, and its exit is known`, async () => {
    await using place = await subject.scratch()
    const host = await subject.open(place.path)
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

  test(`${subject.name}: a deadline, a cancellation`, async () => {
    await using place = await subject.scratch()
    const host = await subject.open(place.path)
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

  test(`${subject.name}: who obeys a stop with exit 0 has not succeeded`, async () => {
    await using place = await subject.scratch()
    const host = await subject.open(place.path)
    const running = await host.stream(
      job,
      lines('trap "exit 0" TERM; echo ready; while :; do sleep 0.1; done'),
    )
    await new Promise(resolve => running.stdout.once('data', resolve))
    await host.stopOperation('op')
    running.stdout.resume()
    assert.deepEqual((await running.result).exits, [143])
  })

  test(`${subject.name}: a wrapper that is killed takes its group along, and the result says lost`, async () => {
    await using place = await subject.scratch()
    const host = await subject.open(place.path)
    const running = await host.stream(job, lines('echo ready; sleep 600', 'cat'))
    await new Promise(resolve => running.stdout.once('data', resolve))
    const [leader] = await identity(host, 'op/step-a1')
    process.kill(leader, 'SIGKILL')
    await assert.rejects(running.result, { code: 'host.job-lost' })
    assert.deepEqual(await group(leader), [])
  })

  test(`${subject.name}: a program that is killed takes its children along, also those that do not want to`, async () => {
    await using place = await subject.scratch()
    const host = await subject.open(place.path)
    const children = 'sleep 600 & (trap "" TERM; while :; do sleep 1; done) & echo last words >&2; kill -9 $$'
    const running = await host.stream(job, lines(children, 'cat'))
    const [leader] = await identity(host, 'op/step-a1')
    running.stdout.resume()
    const { exits, stderrTail } = await running.result
    assert.deepEqual(exits, [137, 0])
    assert.match(stderrTail, /last words/)
    assert.deepEqual(await group(leader), [])
  })

  test(`${subject.name}: hostile names and commands are refused before anything runs`, async () => {
    await using place = await subject.scratch()
    const host = await subject.open(place.path)
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

  test(`${subject.name}: any words arrive as they are`, async () => {
    await using place = await subject.scratch()
    const host = await subject.open(place.path)
    const nasty = fc.constantFrom(
      "'",
      '"',
      '\\',
      '$x',
      '`',
      '\n',
      '\r',
      ' ',
      '*',
      '~',
      '!',
      '-n',
      '%s',
      '\x04',
      'ä',
    )
    const word = fc.oneof(
      fc.string({ unit: 'binary', maxLength: 40 }).map(text => text.replaceAll('\0', '')),
      fc.array(nasty, { maxLength: 12 }).map(parts => parts.join('')),
    )
    const script = 'for word; do printf %s "$word" | od -An -v -tx1 | tr -d " \\n"; echo; done'
    await fc.assert(
      fc.asyncProperty(fc.array(word, { minLength: 1, maxLength: 8 }), fc.string(), async (words, value) => {
        const { stdout } = await host.run(job, {
          stages: [
            {
              argv: [
                'sh',
                '-c',
                `${script}; printf %s "$VALUE" | od -An -v -tx1 | tr -d " \\n"`,
                'x',
                ...words,
              ],
              env: { VALUE: value.replaceAll('\0', '') },
            },
          ],
        })
        const hex = (text: string) => Buffer.from(text, 'utf8').toString('hex')
        assert.equal(stdout, [...words.map(hex), hex(value.replaceAll('\0', ''))].join('\n'))
      }),
      { numRuns: 12 },
    )
  })

  test(`${subject.name}: output that looks like our own words stays as it is`, async () => {
    await using place = await subject.scratch()
    const host = await subject.open(place.path)
    const text = `${'holdfast exits 0\n\n\x04holdfast 0123456789abcdef\n\x04holdf'.repeat(20_000)}\n\x04`
    await host.files.ensureDirectory(host.stagingDir('op'))
    await host.files.write(`${host.stagingDir('op')}/text`, text)
    const running = await host.stream(job, lines('cat text', 'cat'))
    const chunks: Buffer[] = []
    for await (const chunk of running.stdout) chunks.push(chunk)
    assert.deepEqual((await running.result).exits, [0, 0])
    assert.ok(Buffer.concat(chunks).equals(Buffer.from(text)))
  })
}
