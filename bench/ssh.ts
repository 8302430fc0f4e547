/**
 * `npm run bench ssh`: a stream through our link, from a machine over SSH and to it, against OpenSSH's own client with the
 * same cipher and the same programs at the other end.
 */
import { fork } from 'node:child_process'
import { chmod, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { startSshd } from '../test/servers/sshd.ts'
import { contest } from './contest.ts'
import type { Row } from './rows.ts'
import { startShell, word } from './shell.ts'
import type { Carried, Carry } from './ssh-child.ts'
import { fill, type StorageOptions } from './storage.ts'

export const sshCases = ['ssh-get', 'ssh-put'] as const

/** 0.8 of OpenSSH's throughput. */
const target = 1 / 0.8
/** What both sides agree on with a server as it is installed. */
const cipher = 'aes128-gcm@openssh.com'

export async function sshStreams(options: Omit<StorageOptions, 'directory'>): Promise<Row[]> {
  const bytes = Math.round(options.sizeGb * 1e9)
  const server = await startSshd()
  // In memory, so that no disk is measured.
  const directory = await mkdtemp('/dev/shm/holdfast-bench-')
  const [file, key] = [join(directory, 'bytes'), join(directory, 'key')]
  const child = fork(new URL('ssh-child.ts', import.meta.url), {
    stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
  })
  const shell = startShell({})
  try {
    await chmod(directory, 0o755)
    await fill(file, bytes)
    await writeFile(key, server.privateKey, { mode: 0o600 })
    const login = await server.login()
    const stagingRoot = join(server.home, 'staging')
    const carry = (act: Carry['act']) => async () => {
      const begun = process.hrtime.bigint()
      child.send({ login, stagingRoot, act, file } satisfies Carry)
      const outcome = await new Promise<Carried>((resolve, reject) => {
        child.once('message', resolve)
        child.once('exit', code => reject(new Error(`our side ended with ${code}`)))
      })
      child.removeAllListeners('exit')
      if ('failed' in outcome) throw new Error(outcome.failed)
      if (outcome.bytes !== bytes) throw new Error(`${outcome.bytes} of ${bytes} bytes`)
      return { seconds: Number(process.hrtime.bigint() - begun) / 1e9, storedBytes: null }
    }
    const pid = child.pid ?? 0
    const field = {
      ours: { roots: () => [pid], worker: () => pid },
      shell,
      servers: await server.pids(),
      databaseBytes: null,
      runs: options.runs,
      only: options.only,
      say: options.say,
    }
    const ssh = [
      `ssh -c ${cipher} -o BatchMode=yes -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR`,
      `-i ${word(key)} -p ${server.port} ${server.user}@${server.address}`,
    ].join(' ')
    const stream = `${(bytes / 1e9).toFixed(2)} GB`
    return [
      ...(await contest(field, {
        warmUp: true,
        ours: carry('get'),
        baselines: [
          {
            case: 'ssh-get',
            what: `${stream} from the host / ssh`,
            target,
            script: `${ssh} ${word(`cat -- ${file}`)} >/dev/null`,
          },
        ],
      })),
      ...(await contest(field, {
        warmUp: true,
        ours: carry('put'),
        baselines: [
          {
            case: 'ssh-put',
            what: `${stream} to the host / ssh`,
            target,
            script: `${ssh} 'dd of=/dev/null bs=64K' <${word(file)}`,
          },
        ],
      })),
    ]
  } finally {
    child.kill()
    await shell.stop()
    await server.stop()
    await rm(directory, { recursive: true, force: true })
  }
}
