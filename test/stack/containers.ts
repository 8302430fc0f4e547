/**
 * Runs services of docker-compose.yml without a container engine: each in a mount and a process namespace of its own, all in
 * one network namespace, so that commands, addresses, ports, paths, users, secrets and health checks are those of the file,
 * unchanged. What the images would bring is laid out by `images.ts`. Not imitated: separate networks, limits, capabilities
 * of services that run as root. Needs root, as `mount` does.
 */
import { type ChildProcess, execFile, spawn } from 'node:child_process'
import { createWriteStream } from 'node:fs'
import { chown, mkdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { promisify } from 'node:util'
import type { ComposeModel } from '../servers/compose-model.ts'

const run = promisify(execFile)

/** What stands in for an image. */
export interface Image {
  entrypoint: string[]
  command: string[]
  env: Record<string, string>
  /** uid and gid; absent: root. */
  user?: number
  /** Path in the container → path here. */
  files: Record<string, string>
  /** Owner of new named volumes is the user. */
  workdir?: string
}

export interface Container {
  readonly log: string
  /** Exit code once it has ended; `null` after a signal. */
  readonly ended: Promise<number | null>
  isRunning(): boolean
  /** Of its first process, seen from here. */
  pid(): Promise<number>
  /** `docker stop`: the stop signal to its first process; true when it ended within its time, before KILL. */
  stop(): Promise<boolean>
  kill9(): Promise<void>
  /** `docker exec`. */
  exec(argv: readonly string[], options?: { input?: string }): Promise<{ stdout: string; stderr: string }>
}

export interface Containers {
  start(name: string): Promise<Container>
  /** Waits until its health check passes, or, for one-shot services, until it has ended with 0. */
  ready(name: string, seconds?: number): Promise<void>
  get(name: string): Container
  /** Starts services in the order of what they wait for, as `docker compose up --wait` does. */
  up(names: readonly string[]): Promise<void>
  /** Ends services in the opposite order; names of those that had to be killed. */
  down(): Promise<string[]>
  /** Runs a program in the network of the stack, with its names. */
  inNetwork(argv: readonly string[]): string[]
  close(): Promise<void>
}

const q = (text: string) => `'${text.replaceAll("'", "'\\''")}'`

export async function openContainers(options: {
  model: ComposeModel
  images: Record<string, Image>
  /** Volumes, logs and copies; made private. */
  directory: string
  /** Where the secrets are; the model's own paths are the user's. */
  secrets: string
  /** More names that mean this machine. */
  names?: string[]
}): Promise<Containers> {
  const { model, images, directory, secrets } = options
  await mkdir(join(directory, 'volumes'), { recursive: true })
  const names = [...Object.keys(model.services), ...(options.names ?? []), 'localhost']
  const hosts = join(directory, 'hosts')
  await writeFile(hosts, `127.0.0.1 ${names.join(' ')}\n`)
  // Holds the network for as long as the stack lives, and ends with this process: its standard input closes.
  const holder = spawn('unshare', ['--net', 'sh', '-c', 'ip link set lo up && echo up && exec cat'], {
    stdio: ['pipe', 'pipe', 'inherit'],
  })
  await new Promise<void>((resolve, reject) => {
    holder.stdout.once('data', () => resolve())
    holder.once('exit', code => reject(new Error(`no network namespace: ${code}`)))
  })
  const net = `--net=/proc/${holder.pid}/ns/net`
  const running = new Map<string, Container>()
  /** Of containers that run: none outlives this process. */
  const firsts = new Set<number>()
  const lastResort = () => {
    for (const pid of firsts) {
      try {
        process.kill(pid, 'SIGKILL')
      } catch {
        // Gone already.
      }
    }
  }
  process.once('exit', lastResort)
  let starts = 0

  const service = (name: string): ComposeModel['services'][string] => {
    const found = model.services[name]
    if (!found) throw new Error(`docker-compose.yml has no service ${name}`)
    return found
  }
  const imageOf = (name: string): Image => {
    const repository = service(name).image.replace(/:[^/]*$/, '')
    const found = images[repository]
    if (!found) throw new Error(`nothing stands in for the image ${repository}`)
    return found
  }

  /** Shell text that builds the container's file system around the shell, then becomes its first process. */
  async function script(name: string): Promise<string> {
    const { secrets: given, volumes, read_only: readOnly } = service(name)
    const image = imageOf(name)
    const lines = ['set -eu', 'mount --make-rprivate /']
    const scratch = join(directory, 'layers', `${name}-${++starts}`)
    await mkdir(scratch, { recursive: true })
    // A writable layer over the machine's files, as an engine would make one over the image's. In memory, since a layer
    // may not lie within the one below it.
    lines.push(
      `mount -t tmpfs -o mode=755 none ${q(scratch)}`,
      `mkdir ${q(`${scratch}/upper`)} ${q(`${scratch}/work`)} ${q(`${scratch}/root`)}`,
      `mount -t overlay overlay -o lowerdir=/,upperdir=${q(`${scratch}/upper`)},workdir=${q(`${scratch}/work`)} ${q(`${scratch}/root`)}`,
    )
    const at = (path: string) => q(`${scratch}/root${path}`)
    const bind = (from: string, to: string, flags = '') => {
      lines.push(
        `if [ -d ${q(from)} ]; then mkdir -p ${at(to)}; else mkdir -p ${at(join(to, '..'))}; [ -e ${at(to)} ] || : >${at(to)}; fi`,
        `mount --bind ${q(from)} ${at(to)}`,
        ...(flags === '' ? [] : [`mount -o remount,bind,${flags} ${at(to)}`]),
      )
    }
    lines.push(
      // Not this machine's: an image has none.
      `rm -f ${at('/etc/machine-id')} ${at('/var/lib/dbus/machine-id')}`,
      `grep -q '^node:' ${at('/etc/passwd')} || echo 'node:x:1000:1000::/home/node:/bin/sh' >>${at('/etc/passwd')}`,
    )
    for (const path of ['/tmp', '/run', '/var/lib/postgresql', '/root', '/srv', '/opt']) {
      lines.push(
        `mkdir -p ${at(path)}`,
        `mount -t tmpfs -o mode=${path === '/tmp' ? '1777' : '755'} none ${at(path)}`,
      )
    }
    bind(hosts, '/etc/hosts')
    for (const path of ['/dev', '/sys']) lines.push(`mount --rbind ${path} ${at(path)}`)
    for (const [to, from] of Object.entries(image.files)) bind(from, to, 'ro')
    for (const { source, target } of given) bind(join(secrets, source), target, 'ro')
    for (const { type, source, target, read_only } of volumes) {
      let from = source ?? ''
      if (type === 'volume') {
        from = join(directory, 'volumes', source ?? `${name}-${starts}`)
        if ((await mkdir(from, { recursive: true })) !== undefined && image.user !== undefined) {
          await chown(from, image.user, image.user)
        }
      }
      bind(from, target, read_only === true ? 'ro' : '')
    }
    lines.push(`mount -t proc proc ${at('/proc')}`)
    if (readOnly) lines.push(`mount -o remount,ro ${q(`${scratch}/root`)}`)
    lines.push(
      `hostname ${q(name)}`,
      `cd ${q(`${scratch}/root`)}`,
      'mkdir run/old',
      'pivot_root . run/old',
      'umount -l /run/old',
      `cd ${q(image.workdir ?? '/')}`,
      `exec ${become(name).map(q).join(' ')} "$@"`,
    )
    return lines.join('\n')
  }

  const become = (name: string): string[] => {
    const { user } = imageOf(name)
    if (user === undefined) return ['setpriv', '--no-new-privs']
    const id = ['--reuid', String(user), '--regid', String(user), '--clear-groups']
    return ['setpriv', ...id, '--inh-caps=-all', '--bounding-set=-all', '--no-new-privs']
  }

  const environment = (name: string): Record<string, string> => ({
    PATH: '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin',
    HOME: imageOf(name).user === undefined ? '/root' : '/tmp',
    ...imageOf(name).env,
    ...service(name).environment,
  })

  const start = async (name: string): Promise<Container> => {
    const { entrypoint, command } = service(name)
    const image = imageOf(name)
    const argv = entrypoint
      ? [...entrypoint, ...(command ?? [])]
      : [...image.entrypoint, ...(command ?? image.command)]
    const namespaces = ['unshare', '--mount', '--uts', '--pid', '--fork']
    const text = await script(name)
    const child: ChildProcess = spawn(
      'nsenter',
      [net, ...namespaces, 'sh', '-c', text, 'container', ...argv],
      { env: environment(name), stdio: ['ignore', 'pipe', 'pipe'] },
    )
    const log = join(directory, `${name}.log`)
    const file = createWriteStream(log, { flags: 'a' })
    child.stdout?.pipe(file, { end: false })
    child.stderr?.pipe(file, { end: false })
    let over = false
    let firstPid: number | undefined
    const ended = new Promise<number | null>(resolve =>
      child.once('exit', code => {
        over = true
        if (firstPid !== undefined) firsts.delete(firstPid)
        resolve(code)
      }),
    )
    const first = async (): Promise<number> => {
      // `unshare` became what `nsenter` was; its child is the first process of the namespace.
      const children = await readFile(`/proc/${child.pid}/task/${child.pid}/children`, 'utf8')
      const pid = Number(children.trim().split(' ')[0])
      if (!(pid > 0)) throw new Error(`${name} has no process`)
      firsts.add(pid)
      firstPid = pid
      return pid
    }
    const container: Container = {
      log,
      ended,
      isRunning: () => !over,
      pid: first,
      async stop() {
        if (over) return true
        const seconds =
          Number.parseFloat(service(name).stop_grace_period ?? '10s') *
          (/m/.test(service(name).stop_grace_period ?? '') ? 60 : 1)
        process.kill(await first(), (service(name).stop_signal ?? 'SIGTERM') as NodeJS.Signals)
        const inTime = await Promise.race([ended.then(() => true), sleep(seconds * 1000, false)])
        if (!inTime) await container.kill9()
        return inTime
      },
      async kill9() {
        // With its first process goes the whole namespace. The parent's death would not do: a change of user undoes that.
        const pid = over ? undefined : await first().catch(() => undefined)
        if (pid === undefined) child.kill('SIGKILL')
        else process.kill(pid, 'SIGKILL')
        await ended
      },
      async exec(argv, execOptions = {}) {
        const enter = ['--target', String(await first()), '--mount', '--pid', net]
        const promise = run('nsenter', [...enter, '--', ...become(name), ...argv], {
          env: environment(name),
          maxBuffer: 16 * 1024 * 1024,
        })
        // It may end before it has read.
        promise.child.stdin?.on('error', () => {})
        promise.child.stdin?.end(execOptions.input ?? '')
        return promise
      },
    }
    running.set(name, container)
    return container
  }

  const get = (name: string): Container => {
    const found = running.get(name)
    if (!found) throw new Error(`${name} was not started`)
    return found
  }

  const ready = async (name: string, seconds = 300): Promise<void> => {
    const container = get(name)
    const { healthcheck, restart } = service(name)
    const tail = async () => (await readFile(container.log, 'utf8')).slice(-3000)
    if (restart?.startsWith('on-failure')) {
      const code = await container.ended
      if (code !== 0) throw new Error(`${name} ended with ${code}: ${await tail()}`)
      return
    }
    const until = Date.now() + seconds * 1000
    let last = ''
    while (container.isRunning() && Date.now() < until) {
      try {
        await container.exec(healthcheck?.test.slice(1) ?? ['true'])
        return
      } catch (error) {
        last = String(error)
      }
      await sleep(300)
    }
    throw new Error(`${name} does not get healthy: ${last}\n${await tail()}`)
  }

  return {
    start,
    ready,
    get,
    async up(wanted) {
      const done = new Set<string>()
      const bring = async (name: string): Promise<void> => {
        if (done.has(name)) return
        done.add(name)
        for (const other of Object.keys(service(name).depends_on)) await bring(other)
        if (!(running.get(name)?.isRunning() ?? false)) await start(name)
        await ready(name)
      }
      for (const name of wanted) await bring(name)
    },
    async down() {
      const killed: string[] = []
      for (const [name, container] of [...running].reverse()) {
        if (!(await container.stop())) killed.push(name)
      }
      running.clear()
      return killed
    },
    inNetwork: argv => ['nsenter', net, '--', ...argv],
    async close() {
      for (const container of running.values()) await container.kill9()
      process.removeListener('exit', lastResort)
      holder.stdin.end()
      holder.kill('SIGKILL')
    },
  }
}
