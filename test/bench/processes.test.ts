import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { test } from 'node:test'
import { watchTree } from '../../bench/processes.ts'

/** Turns for this many processor seconds, whatever else the machine does. */
const turn = (seconds: number) =>
  `node -e 'while (process.cpuUsage().user + process.cpuUsage().system < ${seconds * 1e6});'`

async function costOf(script: string): Promise<number> {
  const shell = spawn('bash', ['-c', `read -r _; ${script}; echo done; read -r _`], {
    stdio: ['pipe', 'pipe', 'inherit'],
    env: { ...process.env, PATH: `${process.execPath.replace(/\/node$/, '')}:${process.env.PATH}` },
  })
  const tree = watchTree([shell.pid ?? 0])
  const timer = setInterval(() => tree.sample(), 20)
  try {
    shell.stdin.write('\n')
    await once(shell.stdout, 'data')
    return tree.cpuSeconds()
  } finally {
    clearInterval(timer)
    shell.stdin.end('\n')
    await once(shell, 'exit')
  }
}

test('the time of children and of their children counts once', async () => {
  const seconds = await costOf(`( ${turn(0.4)} | cat; ( ${turn(0.4)} ) )`)
  assert.ok(seconds >= 0.8 && seconds < 1.1, `${seconds} s`)
})

test('a process that lost its parent still counts', async () => {
  // The outer subshell ends first; `cat` waits for what it has left behind.
  const seconds = await costOf(`( ( sleep 0.4; ${turn(0.5)} ) & sleep 0.2 ) | cat`)
  assert.ok(seconds >= 0.4 && seconds < 0.9, `${seconds} s`)
})

test('memory is the sum over the tree', async () => {
  const child = spawn(
    process.execPath,
    ['-e', 'const b = Buffer.alloc(100e6, 1); console.log(b.length); setInterval(() => {}, 1000)'],
    {
      stdio: ['ignore', 'pipe', 'inherit'],
    },
  )
  try {
    await once(child.stdout, 'data')
    const bytes = watchTree([child.pid ?? 0]).sample()
    assert.ok(bytes > 100e6 && bytes < 400e6, `${bytes} bytes`)
    child.kill('SIGKILL')
    await once(child, 'exit')
  } finally {
    child.kill('SIGKILL')
  }
})
