/**
 * Children that cannot outlive us. Every child holds one end of a pipe: when we die, however we die, the kernel closes
 * our end, a watcher inside the child's own session sees it and ends the child. A child runs in a session of its own,
 * so that Ctrl-C in the terminal reaches only us and we can drain in order.
 */
import { type ChildProcess, spawn } from 'node:child_process'

/**
 * The watcher is forked before `exec`, so there is no moment at which the child lives unwatched; `$$` is the pid the
 * program has after `exec`. The start time (empty for a zombie) is compared before a signal is sent, because pids are reused.
 */
const leash = `
exec 3<&0 </dev/null
started() { sed -n 's/.*) [^ZX] //p' "/proc/$$/stat" 2>/dev/null | cut -d ' ' -f 19; }
mine=$(started)
alive() { kill -0 $$ 2>/dev/null && [ "$(started)" = "$mine" ]; }
(
  trap '' HUP INT TERM
  read -r _ <&3
  alive && kill -TERM $$
  n=0
  while alive && [ $n -lt "$GRACE_TENTHS" ]; do sleep 0.1; n=$((n + 1)); done
  alive && kill -KILL $$
) >/dev/null 2>&1 &
exec 3<&-
unset GRACE_TENTHS
exec "$@"
`

export interface LeashedOptions {
  env?: Record<string, string | undefined>
  cwd?: string
  /** Where standard output and error go: a file descriptor, or 'pipe' to read them. */
  output: number | 'pipe' | 'ignore'
  /** Seconds between TERM and KILL when we die. */
  graceSeconds?: number
  /** Another user to run as; only root may ask for it. */
  uid?: number
  gid?: number
}

/** Starts `command`; its pid is the program's own. Our end of the leash is `child.stdin`: never write to it. */
export function spawnLeashed(
  command: string,
  args: readonly string[],
  options: LeashedOptions,
): ChildProcess {
  const child = spawn('/bin/sh', ['-c', leash, 'holdfast-leash', command, ...args], {
    detached: true,
    stdio: ['pipe', options.output, options.output],
    env: { ...(options.env ?? process.env), GRACE_TENTHS: String((options.graceSeconds ?? 10) * 10) },
    ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
    ...(options.uid === undefined ? {} : { uid: options.uid }),
    ...(options.gid === undefined ? {} : { gid: options.gid }),
  })
  child.stdin?.on('error', () => {})
  // The watcher waits for our end to close; once the child is gone there is nothing left to watch.
  child.once('exit', () => child.stdin?.destroy())
  return child
}

/** Resolves when the child is gone. TERM first; KILL after `graceSeconds`. */
export async function endChild(child: ChildProcess, graceSeconds: number): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null || child.pid === undefined) return
  const gone = new Promise<void>(resolve => child.once('exit', () => resolve()))
  child.kill('SIGTERM')
  const timer = setTimeout(() => child.kill('SIGKILL'), graceSeconds * 1000)
  await gone
  clearTimeout(timer)
}
