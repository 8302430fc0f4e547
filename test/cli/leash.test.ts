import assert from 'node:assert/strict'
import { type ChildProcess, spawn } from 'node:child_process'
import { join } from 'node:path'
import { test } from 'node:test'
import { endChild, spawnLeashed } from '../../cli/leash.ts'
import { markOf, processLives } from '../../cli/up/processes.ts'
import { eventually } from './run.ts'

const leash = join(import.meta.dirname, '../../cli/leash.ts')

/** A holder that starts a leashed shell and prints its pid. */
function holder(script: string): { child: ChildProcess; pid: Promise<number> } {
  const code = `
    import { spawnLeashed } from ${JSON.stringify(leash)}
    const child = spawnLeashed('/bin/sh', ['-c', ${JSON.stringify(script)}], { output: 'pipe', graceSeconds: 1 })
    child.stdout.once('data', () => console.log(child.pid))
    setInterval(() => {}, 1000)`
  const child = spawn(process.execPath, ['--input-type=module-typescript', '-e', code], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  const pid = new Promise<number>(resolve => child.stdout.once('data', text => resolve(Number(String(text)))))
  return { child, pid }
}

const gone = (mark: { pid: number; started: string }) => (processLives(mark) ? undefined : true)

test('a child ends when its holder is killed with -9', async () => {
  const { child, pid } = holder('echo ready; exec sleep 600')
  const mark = markOf(await pid)
  assert.ok(processLives(mark))
  child.kill('SIGKILL')
  await eventually('the child ends', () => gone(mark))
})

test('a child that ignores TERM is killed after the grace time', async () => {
  const { child, pid } = holder(`trap '' TERM HUP INT; echo ready; while :; do sleep 1; done`)
  const mark = markOf(await pid)
  child.kill('SIGKILL')
  await eventually('the child ends', () => gone(mark))
})

test("a child's pid is its program's own, and ending it in order leaves no watcher", async () => {
  const child = spawnLeashed('/bin/sh', ['-c', 'echo $$; exec sleep 600'], { output: 'pipe' })
  const pid = await new Promise<number>(resolve =>
    child.stdout?.once('data', text => resolve(Number(String(text)))),
  )
  assert.equal(pid, child.pid)
  await endChild(child, 5)
  assert.equal(child.signalCode, 'SIGTERM')
  // The watcher is of the child's process group; nothing may be left of it.
  await eventually('the group is gone', () => {
    try {
      process.kill(-pid, 0)
      return undefined
    } catch {
      return true
    }
  })
})

test('a process that has the pid of another is not that one', () => {
  const mine = markOf(process.pid)
  assert.ok(processLives(mine))
  if (mine.started !== '') assert.ok(!processLives({ ...mine, started: '1' }))
})
