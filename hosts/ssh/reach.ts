/** How a machine over SSH is reached: everything is text for a shell there. */
import { Writable } from 'node:stream'
import { HoldfastError } from '../../model/errors.ts'
import { letGo } from '../../model/let-go.ts'
import type { FeedEnd, Reach, RunFiles } from '../place.ts'
import { quote } from '../quote.ts'
import { startScript } from '../script.ts'
import { broken } from '../shell.ts'
import { type Remote, remoteShell, withWords } from './channel.ts'
import { collect, remoteFiles } from './files.ts'

/** The link is given up after some twenty seconds of silence; by then nobody sends words any more. */
const beats = { everyMs: 5000, patienceSeconds: 60 }

export function sshReach(remote: Remote, stagingRoot: string): Reach {
  return {
    shell: ['/bin/sh'],
    beats,
    script: (text, words, size = 'short') => remoteShell(remote, withWords(text, words), size),
    start: run =>
      remoteShell(
        remote,
        startText(stagingRoot, remote.runAs !== null, run),
        run.mode === 'detached' ? 'short' : run.feeds ? 'pair' : 'long',
        run.endMark,
      ),
    tails: (runDirectory, stages) => tails(remote, runDirectory, stages),
    openFeed: runDirectory => openFeed(remote, runDirectory),
    files: remoteFiles(remote, stagingRoot),
  }
}

const startText = (root: string, nested: boolean, run: RunFiles): string =>
  [
    `hf_root=${quote(root)}`,
    `hf_work=${quote(run.workDirectory)}`,
    `hf_job=${quote(run.jobDirectory)}`,
    `hf_directory=${quote(run.runDirectory)}`,
    `hf_mode=${run.mode}`,
    `hf_stages=${run.stages}`,
    `hf_text=${quote(run.script)}`,
    `hf_input=${quote(run.input ?? '')}`,
    `hf_has_input=${run.input === undefined ? '' : 1}`,
    `hf_nested=${nested ? 1 : ''}`,
    startScript,
  ].join('\n')

const tailsText = `
hf_directory=$1
hf_i=0
while [ "$hf_i" -lt "$2" ]; do
  hf_file=$hf_directory/stderr.$hf_i
  if [ -e "$hf_file" ]; then
    printf '%s\\n' "$(($(wc -c <"$hf_file")))"
    cat -- "$hf_file"
  else
    echo 0
  fi
  hf_i=$((hf_i + 1))
done`

/** Each as its length in a line, then its bytes. */
async function tails(remote: Remote, runDirectory: string, stages: number): Promise<Buffer[]> {
  const words = [runDirectory, String(stages)]
  const { stdout } = await collect(await remoteShell(remote, withWords(tailsText, words), 'short'))
  const found: Buffer[] = []
  let at = 0
  while (found.length < stages) {
    const end = stdout.indexOf(10, at)
    const bytes = Number(stdout.subarray(at, end).toString('latin1'))
    if (end === -1 || !Number.isInteger(bytes)) {
      throw new HoldfastError(
        'host.unreachable',
        `Reading what was said in ${runDirectory} on ${remote.name}: no answer.`,
      )
    }
    found.push(stdout.subarray(end + 1, end + 1 + bytes))
    at = end + 1 + bytes
  }
  return found
}

/**
 * Writes into the FIFO what comes. The link's end is not the end of the data: the FIFO is held until the wrapper takes its
 * name away, or is gone. Opened for both first: that does not wait for a reader that has left.
 */
const feedText = `
exec 7<>"$1/feed" || exit 1
exec 9>"$1/feed" || exit 1
exec 7<&-
read -r hf_pid hf_rest <"$1/identity" || exit 1
cat >&9 || exit 1
printf taken
exec >/dev/null 2>&1
while [ -p "$1/feed" ] && kill -s 0 "$hf_pid" 2>/dev/null; do sleep 0.2 2>/dev/null || sleep 1; done`

async function openFeed(remote: Remote, runDirectory: string): Promise<FeedEnd> {
  const shell = await remoteShell(remote, withWords(feedText, [runDirectory]), 'paired')
  let said = ''
  const taken = new Promise<boolean>(resolve => {
    shell.stdout.on('data', (chunk: Buffer) => {
      said += chunk.toString('latin1')
      if (said === 'taken') resolve(true)
    })
    shell.gone.then(
      () => resolve(said === 'taken'),
      () => resolve(false),
    )
  })
  shell.stderr.resume()
  const stdin = new Writable({
    highWaterMark: 1024 * 1024,
    write(chunk: Buffer, _encoding, callback) {
      shell.stdin.write(chunk, cause => {
        letGo(chunk)
        callback(cause)
      })
    },
    final(callback) {
      shell.stdin.end()
      taken.then(all => callback(all ? null : broken()))
    },
    destroy(error, callback) {
      shell.stdin.destroy()
      callback(error)
    },
  })
  // Handlers come later, and an error without one would end the process; `result` tells what happened.
  stdin.on('error', () => {})
  taken.then(all => {
    if (!all && !stdin.destroyed) stdin.destroy(broken())
  })
  // It ends by itself: with the name of the FIFO, or with the wrapper.
  return { stdin, close: () => void shell.stdin.destroy() }
}
