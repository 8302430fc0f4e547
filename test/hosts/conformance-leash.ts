/** What becomes of attached jobs when their worker dies, sleeps, or is replaced. */
import assert from 'node:assert/strict'
import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import type { Subject } from './subject.ts'
import { eventually, group, groupGone, identity, lines } from './support.ts'

const id = (token: string) => JSON.stringify({ operation: 'op', step: 'step', token })

export function leashes(subject: Subject): void {
  test(`${subject.name}: a worker killed with -9 takes its stream along`, async () => {
    await using place = await subject.scratch()
    const host = await subject.open(place.path)
    const killed = subject.worker(
      place.path,
      `const running = await host.stream(${id('s')}, { stages: [sh('while :; do sleep 0.1; done'), sh('cat'), sh('cat')] })
      console.log('ready')`,
    )
    assert.equal(await killed.said, 'ready')
    const [leader] = await identity(host, 'op/step-s')
    await eventually('all of it to run', async () => ((await group(leader)).length > 4 ? true : undefined))
    await killed.kill()
    await groupGone(leader)
    // Nothing is left of it but the staging directory.
    await eventually('the job directory to go', async () =>
      (await readdir(join(place.path, 'jobs'))).length === 0 ? true : undefined,
    )
  })

  test(`${subject.name}: a fed program never sees the end of file when the worker is killed, even if it ignores TERM`, async () => {
    await using place = await subject.scratch()
    const host = await subject.open(place.path)
    for (const [token, trap] of [
      ['plain', ''],
      ['stubborn', 'trap "" TERM; '],
    ] as const) {
      const killed = subject.worker(
        place.path,
        `const fed = await host.feed(${id(token)}, { stages: [sh('${trap}cat > ${token}; echo finished >> ${token}')] })
        fed.stdin.write('half', () => console.log('written'))`,
      )
      assert.equal(await killed.said, 'written')
      const [leader] = await identity(host, `op/step-${token}`)
      const file = join(host.stagingDir('op'), token)
      await eventually('the data', async () =>
        (await host.files.readSmall(file)) === 'half' ? true : undefined,
      )
      await killed.kill()
      await groupGone(leader)
      assert.equal(await host.files.readSmall(file), 'half')
    }
  })

  test(`${subject.name}: a worker that was killed after "complete" leaves a program that saw its end`, async () => {
    await using place = await subject.scratch()
    const host = await subject.open(place.path)
    const killed = subject.worker(
      place.path,
      `const fed = await host.feed(${id('c')}, { stages: [sh('cat > got; echo finished >> got; exec sleep 600')] })
      fed.stdin.write('all')
      await fed.complete()
      console.log('complete')`,
    )
    assert.equal(await killed.said, 'complete')
    const [leader] = await identity(host, 'op/step-c')
    const file = join(host.stagingDir('op'), 'got')
    await eventually('the end', async () =>
      (await host.files.readSmall(file)) === 'allfinished\n' ? true : undefined,
    )
    await killed.kill()
    await groupGone(leader)
  })

  test(`${subject.name}: a successor stops the jobs of a worker that sleeps, attached and detached`, async () => {
    await using place = await subject.scratch()
    const host = await subject.open(place.path)
    const asleep = subject.worker(
      place.path,
      `await host.stream(${id('s')}, { stages: [sh('sleep 600'), sh('cat')] })
      await host.feed(${id('f')}, { stages: [sh('cat > fed; echo finished >> fed')] })
      await host.jobs.start(${id('d')}, { stages: [sh('trap "" TERM; while :; do sleep 1; done')] }, { fence: 1 })
      console.log('ready')`,
    )
    assert.equal(await asleep.said, 'ready')
    const leaders = await Promise.all(
      ['s', 'f', 'd'].map(async token => (await identity(host, `op/step-${token}`))[0]),
    )
    asleep.child.kill('SIGSTOP')
    try {
      await host.stopOperation('op')
      for (const leader of leaders) assert.deepEqual(await group(leader), [])
      assert.equal(await host.files.readSmall(join(host.stagingDir('op'), 'fed')), '')
      assert.equal((await host.jobs.status({ operation: 'op', step: 'step', token: 'd' })).state, 'lost')
      await host.removeOperation('op')
      assert.deepEqual(await host.operations(), [])
    } finally {
      await asleep.kill()
    }
  })

  test(`${subject.name}: the same job again takes the place of one whose worker is gone`, async () => {
    await using place = await subject.scratch()
    const host = await subject.open(place.path)
    const job = { operation: 'op', step: 'step', token: 'again' }
    const first = await host.stream(job, lines('sleep 600'))
    const [leader] = await identity(host, 'op/step-again')
    assert.deepEqual((await host.run(job, lines('echo second'))).stdout, 'second\n')
    await groupGone(leader)
    first.stdout.resume()
    assert.ok((await first.result.catch(() => ({ exits: [1] }))).exits[0] !== 0)
  })

  test(`${subject.name}: a job that had to be killed does not end the one that took its place`, async () => {
    await using place = await subject.scratch()
    const host = await subject.open(place.path)
    const job = { operation: 'op', step: 'step', token: 'again' }
    const first = await host.stream(job, lines('trap "" TERM; echo ready; while :; do sleep 1; done'))
    await new Promise(resolve => first.stdout.once('data', resolve))
    const second = await host.stream(job, lines('echo second; while ! [ -e go ]; do sleep 0.05; done'))
    try {
      first.stdout.resume()
      await assert.rejects(first.result, { code: 'host.job-lost' })
      await host.files.write(join(host.stagingDir('op'), 'go'), '')
      second.stdout.resume()
      assert.deepEqual((await second.result).exits, [0])
      assert.deepEqual(await readdir(join(place.path, 'jobs')), [])
    } finally {
      // One that goes on would hold up the run of all tests.
      await host.stopOperation('op')
    }
  })

  test(`${subject.name}: a fed program sees no end while the worker lives, even if the leash is killed`, async () => {
    await using place = await subject.scratch()
    const host = await subject.open(place.path)
    const fed = await host.feed(
      { operation: 'op', step: 'step', token: 'h' },
      lines('cat > got; echo finished >> got'),
    )
    const [leader] = await identity(host, 'op/step-h')
    const file = join(host.stagingDir('op'), 'got')
    const holder = await eventually('the leash', async () => {
      for (const one of await group(leader)) {
        const links: string[] = await readdir(`/proc/${one.pid}/fd`).catch(() => [])
        if (one.pid !== leader && links.includes('8') && links.includes('5')) return one.pid
      }
      return undefined
    })
    fed.stdin.end('all')
    await eventually('the data', async () =>
      (await host.files.readSmall(file)) === 'all' ? true : undefined,
    )
    process.kill(holder, 'SIGKILL')
    await eventually('the end of the leash', async () =>
      (await group(leader)).some(one => one.pid === holder) ? undefined : true,
    )
    assert.equal(await host.files.readSmall(file), 'all')
    await fed.stop()
    assert.notEqual((await fed.result.catch(() => ({ exits: [1] }))).exits[0], 0)
    assert.equal(await host.files.readSmall(file), 'all')
  })
}
