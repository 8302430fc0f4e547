/** What every host does with detached jobs. */
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import type { Host, JobId } from '../../hosts/host.ts'
import type { Subject } from './subject.ts'
import { eventually, group, groupGone, identity, lines, processes } from './support.ts'

const job: JobId = { operation: 'op', step: 'step', token: 'd' }
const path = 'op/step-d'
const done = (host: Host, id = job) =>
  eventually('the job to be done', async () => {
    const { state, result } = await host.jobs.status(id)
    return state === 'running' ? undefined : { state, result }
  })
const staged = (host: Host, name: string) => host.files.readSmall(join(host.stagingDir('op'), name))

/** With every shell that a server may have. */
export function detachedBasics(subject: Subject): void {
  test(`${subject.name}: a job goes on when its starter is killed`, async () => {
    await using place = await subject.scratch()
    const host = await subject.open(place.path)
    assert.equal((await host.jobs.status(job)).state, 'absent')
    const starter = subject.worker(
      place.path,
      `await host.jobs.start(${JSON.stringify(job)}, { input: 'x', stages: [sh('cat; echo begun; while ! [ -e go ]; do sleep 0.05; done; echo ended; echo why >&2'), sh('cat; exit 5')] }, { stdoutFile: 'out', fence: 1 })
      console.log('started')`,
    )
    assert.equal(await starter.said, 'started')
    await starter.kill()
    assert.equal((await host.jobs.status(job)).state, 'running')
    await writeFile(join(host.stagingDir('op'), 'go'), '')
    assert.deepEqual(await done(host), {
      state: 'done',
      result: { exits: [0, 5], stdout: '', stderrTail: 'why' },
    })
    assert.equal(await staged(host, 'out'), 'xbegun\nended\n')
    // Started again: nothing happens.
    await host.jobs.start(job, lines('echo twice > out'), { fence: 2 })
    assert.equal(await staged(host, 'out'), 'xbegun\nended\n')
    assert.equal((await stat(host.stagingRoot)).mode & 0o77, 0)
    await host.jobs.forget(job)
    assert.equal((await host.jobs.status(job)).state, 'absent')
    await host.removeOperation('op')
    assert.deepEqual(await host.operations(), [])
  })

  test(`${subject.name}: of many starters one runs`, async () => {
    await using place = await subject.scratch()
    const host = await subject.open(place.path)
    const count = lines('echo once >> ran; while ! [ -e go ]; do sleep 0.05; done')
    const other = subject.worker(
      place.path,
      `await Promise.all([1, 2, 3].map(fence => host.jobs.start(${JSON.stringify(job)}, { stages: [sh('echo once >> ran; while ! [ -e go ]; do sleep 0.05; done')] }, { fence: 5 })))
      console.log('started')`,
    )
    try {
      await Promise.all([
        host.jobs.start(job, count, { fence: 5 }),
        host.jobs.start(job, count, { fence: 5 }),
        other.said,
      ])
      await writeFile(join(host.stagingDir('op'), 'go'), '')
      assert.equal((await done(host)).state, 'done')
      assert.equal(await staged(host, 'ran'), 'once\n')

      // Lost, and many start it anew: again one runs, and only after what was left of the first is gone.
      const [, , , run] = await identity(host, path)
      await writeFile(join(place.path, 'jobs', path, run, 'exit'), 'torn')
      await Promise.all(Array.from({ length: 4 }, () => host.jobs.start(job, count, { fence: 5 })))
      assert.equal((await done(host)).state, 'done')
      assert.equal(await staged(host, 'ran'), 'once\nonce\n')
    } finally {
      await other.kill()
    }
  })
}

export function detachedJobs(subject: Subject): void {
  test(`${subject.name}: a wrapper killed with -9 is a lost job; starting it anew first ends what was left`, async () => {
    await using place = await subject.scratch()
    const host = await subject.open(place.path)
    await host.jobs.start(job, lines('echo $$ >> pids; sleep 600'), { fence: 1 })
    const [leader] = await identity(host, path)
    await eventually('the program', () => staged(host, 'pids'))
    process.kill(leader, 'SIGKILL')
    assert.equal((await done(host)).state, 'lost')
    assert.notDeepEqual(await group(leader), [])
    await host.jobs.start(job, lines('echo $$ >> pids; exit 4'), { fence: 2 })
    assert.deepEqual(await group(leader), [])
    assert.deepEqual((await done(host)).result?.exits, [4])
  })

  test(`${subject.name}: a wrapper killed with -9 is stopped with what it left`, async () => {
    await using place = await subject.scratch()
    const host = await subject.open(place.path)
    await host.jobs.start(job, lines('sleep 600'), { fence: 1 })
    const [leader] = await identity(host, path)
    await eventually('the program', async () => ((await group(leader)).length > 3 ? true : undefined))
    process.kill(leader, 'SIGKILL')
    await host.stopOperation('op')
    assert.deepEqual(await group(leader), [])
  })

  test(`${subject.name}: a runner that died before it ran, or whose identity cannot be read, does not block the job`, async () => {
    await using place = await subject.scratch()
    const host = await subject.open(place.path)
    await host.files.ensureDirectory(join(place.path, 'jobs', path))
    for (const [index, text] of ['', 'garbage', '1 2', '999999999 1 boot r-none\n'].entries()) {
      await writeFile(join(place.path, 'jobs', path, `elected-${index + 1}`), text)
      assert.equal((await host.jobs.status(job)).state, 'lost')
    }
    await host.jobs.start(job, lines('echo ran >> ran'), { fence: 1 })
    assert.equal((await done(host)).state, 'done')
    assert.equal(await staged(host, 'ran'), 'ran\n')
  })

  test(`${subject.name}: a starter killed in the middle of it leaves a job that can be started`, async () => {
    await using place = await subject.scratch()
    const host = await subject.open(place.path)
    const command = lines('echo ran >> ran')
    for (let round = 0; round < 3; round += 1) {
      const starter = subject.worker(
        place.path,
        `setTimeout(() => process.kill(process.pid, 'SIGKILL'), ${round * 4})
        console.log('starting')
        await host.jobs.start(${JSON.stringify({ ...job, token: `k${round}` })}, { stages: [sh('echo ran >> ran${round}')] }, { fence: 1 })`,
      )
      await starter.said
      await new Promise(resolve => starter.child.once('close', resolve))
      await host.jobs.start({ ...job, token: `k${round}` }, lines(`echo ran >> ran${round}`), { fence: 2 })
      assert.equal((await done(host, { ...job, token: `k${round}` })).state, 'done')
      assert.equal(await staged(host, `ran${round}`), 'ran\n')
    }
    await host.jobs.start(job, command, { fence: 1 })
    await done(host)
  })

  test(`${subject.name}: a pid that was given to somebody else is not touched, nor one of another boot`, async () => {
    await using place = await subject.scratch()
    const host = await subject.open(place.path)
    await host.jobs.start(job, lines('sleep 600'), { fence: 1 })
    const [leader, started, boot, run] = await identity(host, path)
    const file = join(place.path, 'jobs', path, 'elected-1')
    const stranger = spawn('sleep', ['600'], { detached: true, stdio: 'ignore' })
    try {
      const real = (await processes()).find(one => one.pid === stranger.pid)
      for (const wrong of [Number(real?.started) - 1, Number(real?.started) + 1]) {
        const forged = `${stranger.pid} ${wrong} ${boot} ${run}`
        await writeFile(file, `${forged}\n`)
        assert.equal((await host.jobs.status(job)).state, 'lost')
        await host.jobs.stop(job, 2)
        await host.stopOperation('op')
      }
      await writeFile(file, `${stranger.pid} ${real?.started} 00000000-0000-0000-0000-000000000000 ${run}\n`)
      assert.equal((await host.jobs.status(job)).state, 'lost')
      await host.stopOperation('op')
      assert.ok((await processes()).some(one => one.pid === stranger.pid))

      // Its own identity, of another boot: not trusted, even though it lives.
      await writeFile(file, `${leader} ${started} 00000000-0000-0000-0000-000000000000 ${run}\n`)
      assert.equal((await host.jobs.status(job)).state, 'lost')
    } finally {
      await writeFile(file, `${leader} ${started} ${boot} ${run}\n`)
      stranger.kill('SIGKILL')
    }
    assert.equal((await host.jobs.status(job)).state, 'running')
    await host.stopOperation('op')
    assert.deepEqual(await group(leader), [])
  })

  test(`${subject.name}: the exit and its reason survive a full disk`, async () => {
    await using place = await subject.scratch()
    const root = await place.smallDisk('small', 512)
    const host = await subject.open(root)
    const fill =
      'while ! [ -e go ]; do sleep 0.05; done; cat /dev/zero > fill 2>/dev/null; cp fill copy; echo x > y; exit 3'
    await host.jobs.start(job, lines(fill), { fence: 1 })
    await writeFile(join(host.stagingDir('op'), 'go'), '')
    const { state, result } = await done(host)
    assert.equal(state, 'done')
    assert.deepEqual(result?.exits, [3])
    assert.match(result?.stderrTail ?? '', /No space left on device/)
    assert.equal(await host.files.freeBytes(root), 0)
    await assert.rejects(host.jobs.start({ ...job, token: 'e' }, lines('true'), { fence: 1 }), {
      code: 'staging.full',
    })
    await assert.rejects(host.files.write(join(root, 'file'), 'x'.repeat(9000)), { code: 'staging.full' })
    await host.removeOperation('op')
  })

  test(`${subject.name}: stop ends a program that ignores TERM; a stopped or failed job can be started anew, a finished one stays`, async () => {
    await using place = await subject.scratch()
    const host = await subject.open(place.path)
    await host.jobs.start(job, lines('trap "" TERM; echo up > up; while :; do sleep 1; done'), { fence: 1 })
    const [leader] = await identity(host, path)
    await eventually('the program', () => staged(host, 'up'))
    await host.jobs.stop(job, 1)
    assert.deepEqual(await group(leader), [])
    assert.equal((await host.jobs.status(job)).state, 'lost')

    await host.jobs.start(job, lines('exit 6'), { fence: 1 })
    assert.deepEqual((await done(host)).result?.exits, [6])
    await host.jobs.stop(job, 1)
    await host.jobs.start(job, lines('echo well > well'), { fence: 1 })
    assert.deepEqual((await done(host)).result?.exits, [0])
    await host.jobs.stop(job, 1)
    assert.deepEqual((await done(host)).result?.exits, [0])
  })

  test(`${subject.name}: a zombie's older fence neither stops nor starts`, async () => {
    await using place = await subject.scratch()
    const host = await subject.open(place.path)
    await host.jobs.start(job, lines('sleep 600'), { fence: 1 })
    await host.jobs.start(job, lines('sleep 600'), { fence: 10 })
    const [leader] = await identity(host, path)
    await host.jobs.stop(job, 9)
    assert.equal((await host.jobs.status(job)).state, 'running')
    await host.jobs.stop(job, 10)
    await groupGone(leader)
    await assert.rejects(host.jobs.start(job, lines('true'), { fence: 9 }), { code: 'host.job-lost' })
    await host.jobs.start(job, lines('exit 2'), { fence: 11 })
    assert.deepEqual((await done(host)).result?.exits, [2])
  })
}
