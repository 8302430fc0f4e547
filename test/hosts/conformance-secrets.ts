/** Secrets reach one program, and nothing else. */
import assert from 'node:assert/strict'
import { glob, readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import type { Command } from '../../engines/engine.ts'
import type { Subject } from './subject.ts'
import { eventually } from './support.ts'

/** Processes whose command line or environment holds the text, as their program's name and argument. */
async function whoKnows(secret: string): Promise<string[]> {
  const found: string[] = []
  for (const pid of await readdir('/proc')) {
    if (!/^\d+$/.test(pid)) continue
    const read = (name: string) => readFile(`/proc/${pid}/${name}`, 'utf8').catch(() => '')
    const cmdline = await read('cmdline')
    if (cmdline.includes(secret)) found.push(`cmdline of ${cmdline}`)
    if ((await read('environ')).includes(secret)) found.push(cmdline.replaceAll('\0', ' ').trim())
  }
  return found
}

async function filesWith(root: string, text: string): Promise<string[]> {
  const found: string[] = []
  for await (const entry of glob('**/*', { cwd: root, withFileTypes: true })) {
    const path = join(entry.parentPath, entry.name)
    if (entry.isFile() && (await readFile(path, 'latin1')).includes(text)) found.push(path)
  }
  return found
}

export function secrets(subject: Subject): void {
  test(`${subject.name}: a secret is known to its program alone`, async () => {
    await using place = await subject.scratch()
    const host = await subject.open(place.path)
    // Put together at run time, so that no argument of this test holds it.
    const canary = ['canary', process.pid, 'Ω'].join('-')
    const value = `${canary}'\n"$x"\\\n\n`
    const job = { operation: 'op', step: 'step', token: 'a' }
    const command: Command = {
      stages: [
        { argv: ['sleep', '30001'] },
        { argv: ['sleep', '30002'], secretEnv: { PGPASSWORD: { connection: 'shop', field: 'password' } } },
        { argv: ['sleep', '30003'] },
      ],
    }
    const secrets = { PGPASSWORD: value }
    const only = async () =>
      eventually('the program to run', async () =>
        (await whoKnows(canary)).includes('sleep 30002') ? true : undefined,
      )
    const attached = await host.stream(job, command, { secrets })
    await only()
    assert.deepEqual(await whoKnows(canary), ['sleep 30002'])
    assert.deepEqual(await filesWith(place.path, canary), [])
    await attached.stop()

    const detached = { ...job, token: 'b' }
    await host.jobs.start(detached, command, { secrets, fence: 1 })
    await only()
    assert.deepEqual(await whoKnows(canary), ['sleep 30002'])
    assert.deepEqual(await filesWith(place.path, canary), [])
    await host.stopOperation('op')
    assert.deepEqual(await whoKnows(canary), [])

    // It arrives as it is; what a program says of it is not handed on.
    const argv = ['sh', '-c', 'printf %s "$PGPASSWORD"; echo "wrong: $PGPASSWORD" >&2'] as const
    const echoed = await host.run(
      job,
      { stages: [{ argv, secretEnv: command.stages[1]!.secretEnv! }] },
      { secrets },
    )
    assert.equal(echoed.stdout, value)
    assert.ok(!echoed.stderrTail.includes(canary))
  })
}
