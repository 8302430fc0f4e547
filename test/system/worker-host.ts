/**
 * A database server with a worker of its own: a machine behind a cable, from which it reaches Temporal, the API and the object
 * store, and nobody reaches anything there. Its worker runs as another user.
 */
import { type ChildProcess, execFile, spawn } from 'node:child_process'
import { createWriteStream } from 'node:fs'
import { chown, mkdir, writeFile } from 'node:fs/promises'
import { connect, createServer, type Server } from 'node:net'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { freePort } from '../../cli/free-port.ts'
import { type Namespace, namespace } from '../servers/namespace.ts'
import type { TestPostgres } from '../servers/postgres.ts'
import type { Process, Stack } from './stack.ts'

const run = promisify(execFile)
const root = join(import.meta.dirname, '../..')

/** Listens there on the unix socket's behalf: PostgreSQL itself is on the network of this machine alone. */
const relay = `
const { connect, createServer } = require('node:net')
createServer(near => {
  const far = connect(process.argv[2])
  for (const [one, other] of [[near, far], [far, near]]) one.on('error', () => other.destroy()).pipe(other)
}).listen(Number(process.argv[1]), '127.0.0.1', () => console.log('listens'))
`

export interface WorkerHost {
  network: Namespace
  /** What the worker's user may write. */
  home: string
  /** The same port of this machine, by the address it has from there. */
  expose(url: string): Promise<string>
  /** A port of that machine's loopback, where the database answers. */
  offer(postgres: TestPostgres): Promise<number>
  /** Where its worker keeps what it has, and what it is called there. */
  of(stack: Stack): Promise<void>
  start(name: string, token: string, extra?: Record<string, string>): Promise<Process>
  stop(): Promise<void>
}

export async function startWorkerHost(): Promise<WorkerHost> {
  const network = await namespace()
  const servers: Server[] = []
  const children: ChildProcess[] = []
  let stack: Stack | undefined
  let count = 0
  const there = (...argv: string[]) => ['netns', 'exec', network.name, ...argv]
  const user = (await run('id', ['-u', 'postgres'])).stdout.trim()
  const host = {
    network,
    home: '',
    async of(of: Stack) {
      stack = of
      host.home = join(of.directory, 'there')
      await run('chmod', ['755', of.directory])
      await mkdir(host.home)
      await chown(host.home, Number(user), Number(user))
    },
    async expose(url: string) {
      const { hostname, port: number } = new URL(url)
      const port = Number(number)
      const server = createServer(near => {
        const far = connect({ host: hostname, port })
        near.on('error', () => far.destroy()).pipe(far)
        far.on('error', () => near.destroy()).pipe(near)
      })
      await new Promise<void>((resolve, reject) =>
        server.once('error', reject).listen(port, network.gateway, resolve),
      )
      servers.push(server)
      return `http://${network.gateway}:${port}`
    },
    async offer(postgres: TestPostgres) {
      const port = await freePort()
      const socket = join(postgres.dataDir, `.s.PGSQL.${postgres.port}`)
      const child = spawn('ip', there(process.execPath, '-e', relay, String(port), socket), {
        stdio: ['ignore', 'pipe', 'inherit'],
      })
      children.push(child)
      await new Promise(resolve => child.stdout.once('data', resolve))
      return port
    },
    async start(name: string, token: string, extra: Record<string, string> = {}): Promise<Process> {
      if (!stack) throw new Error('no stack yet')
      count += 1
      const file = join(host.home, `token-${count}`)
      await writeFile(file, `${token}\n`, { mode: 0o600 })
      await chown(file, Number(user), Number(user))
      const log = join(stack.directory, `host-worker-${count}.log`)
      const argv = [join(root, 'bin', 'holdfast'), 'worker', '--host', name]
      const drop = ['setpriv', '--reuid', user, '--regid', user, '--clear-groups']
      const child = spawn('ip', there(...drop, ...argv), {
        cwd: root,
        env: {
          PATH: process.env.PATH,
          HOME: host.home,
          HOLDFAST_HOME: host.home,
          HOLDFAST_TEMP_DIR: join(host.home, 'staging'),
          HOLDFAST_WORKER_TOKEN_FILE: file,
          HOLDFAST_LOG_FORMAT: 'json',
          ...extra,
        },
        stdio: ['ignore', 'pipe', 'pipe'],
      })
      children.push(child)
      const out = createWriteStream(log)
      child.stdout.pipe(out, { end: false })
      child.stderr.pipe(out, { end: false })
      const exited = new Promise<void>(resolve => child.once('exit', () => resolve()))
      const end = async (signal: NodeJS.Signals) => {
        if (child.exitCode === null && child.signalCode === null) child.kill(signal)
        await exited
      }
      return { child, log, kill9: () => end('SIGKILL'), terminate: () => end('SIGTERM') }
    },
    async stop() {
      for (const child of children) child.kill('SIGKILL')
      for (const pid of await network.pids()) {
        try {
          process.kill(pid, 'SIGKILL')
        } catch {
          // Gone already.
        }
      }
      for (const server of servers) server.close()
      await network.remove()
    },
  }
  return host
}
