/**
 * Restores of SQLite: into a temporary file in the target's directory, checked, then linked to its final name. A link
 * fails if the name is taken; what is there is replaced by a swap only.
 */

import { basename, dirname } from 'node:path'
import { HoldfastError } from '../../model/errors.ts'
import type { Manifest } from '../../model/manifest.ts'
import type { Command, RestorePlan, RestoreTarget, ServerFacts, Step } from '../engine.ts'
import { checkedToken } from '../names.ts'
import { one, step } from '../steps.ts'
import { pathProblem, replayed, sidecars, temporaryPath } from './connection.ts'
import { restoreFactsOf } from './facts.ts'
import { existingFacts, swapOf } from './swap.ts'

export function planRestore(
  target: RestoreTarget,
  manifest: Manifest,
  targetFacts: ServerFacts,
): RestorePlan {
  const artifact = manifest.artifacts[0]
  if (manifest.engine !== 'sqlite' || artifact === undefined || manifest.artifacts.length !== 1) {
    throw new HoldfastError(
      'restore.mismatch',
      `Backup ${manifest.backupId} is of ${manifest.engine} with ${manifest.artifacts.length} artifacts; a SQLite target takes one SQLite artifact.`,
    )
  }
  const { replaces } = target
  const final = replaces ? existingFacts.parse(replaces.facts).path : target.database
  const problem = pathProblem(final)
  if (problem !== undefined) {
    throw new HoldfastError('request.invalid', `target.database: the path "${final}" ${problem}.`)
  }
  if (replaces && final !== targetFacts.database) {
    throw new HoldfastError(
      'restore.mismatch',
      `${final} is not the file of connection "${target.connection}" (${targetFacts.database}).`,
      {
        hint: 'A file is replaced through the connection of that very file: its lock is the one that counts.',
      },
    )
  }
  const facts = restoreFactsOf(manifest)
  const temporary = temporaryPath(final, checkedToken(target.token))
  const load =
    artifact.format === 'sqlite-file'
      ? copyLoad(temporary, artifact.name)
      : artifact.format === 'sqlite-dump'
        ? dumpLoad(temporary, artifact.name)
        : undefined
  if (load === undefined) {
    throw new HoldfastError(
      'restore.mismatch',
      `Backup ${manifest.backupId} holds "${artifact.format}"; SQLite restores sqlite-file and sqlite-dump.`,
    )
  }
  // A dump does not carry the journal mode; the copy does, in its header.
  const wal = artifact.format === 'sqlite-dump' && facts.journalMode === 'wal'
  const steps = [
    ...emptied(temporary),
    load,
    ...(wal && !replaces ? [step('journal-mode', 'journal mode WAL', writeAheadLog(temporary))] : []),
    step('sync', 'to disk', one('sync', '--', temporary)),
  ]
  const undo = one('rm', '-f', '--', temporary, ...sidecars(temporary))
  if (replaces) {
    const swap = swapOf(target, replaces, temporary, facts.applicationId)
    return { steps, finish: [], swap: swap.plan, destroys: swap.destroys, undo: [undo, swap.undo] }
  }
  return {
    steps,
    finish: [
      step(
        'no-leftovers',
        'nothing of another database beside',
        one('test', ...replayed(final).flatMap((file, i) => [...(i > 0 ? ['-a'] : []), '!', '-s', file])),
      ),
      {
        ...step('name', `name it ${basename(final)}`, one('ln', '-T', '--', temporary, final)),
        done: one('test', temporary, '-ef', final),
      },
      step('name-only', 'remove the temporary name', one('rm', '-f', '--', temporary)),
      step('sync-directory', 'directory to disk', one('sync', '--', dirname(final))),
    ],
    destroys: [],
    undo: [undo],
  }
}

/**
 * A new, empty file of mode 0600 before the first byte. What a killed run may still write goes to the old file, which
 * has no name any more; its journal must be gone before SQLite would replay it into the new file.
 */
const emptied = (temporary: string): Step[] => [
  {
    ...step('clear', 'clear an earlier try', one('rm', '-f', '--', temporary, ...sidecars(temporary))),
    group: 'load',
  },
  {
    ...step(
      'create',
      'create the temporary file',
      one('install', '-m', '0600', '-T', '--', '/dev/null', temporary),
    ),
    group: 'load',
  },
]

function copyLoad(temporary: string, artifact: string): Step {
  return {
    ...step('load', 'write the copy', one('dd', `of=${temporary}`, 'bs=1M', 'conv=fsync', 'status=none')),
    group: 'load',
    feeds: { artifact },
  }
}

/** The dump's own COMMIT is its last line: a dump that is cut never commits, and -bail leaves the transaction at the first error. */
function dumpLoad(temporary: string, artifact: string): Step {
  return {
    ...step('load', 'sqlite3, replay of the dump', {
      stages: [
        {
          argv: [
            'sqlite3',
            '-init',
            '/dev/null',
            '-batch',
            '-bail',
            // SQL from outside must not run programs or read and write other files.
            '-safe',
            // The file has no other user and is synced as a whole before it gets its name.
            '-cmd',
            'PRAGMA synchronous=OFF;',
            temporary,
          ],
        },
      ],
    }),
    group: 'load',
    feeds: { artifact },
  }
}

const writeAheadLog = (temporary: string): Command => ({
  stages: [{ argv: ['sqlite3', '-init', '/dev/null', '-batch', '-bail', '-safe', temporary] }],
  input: 'PRAGMA journal_mode=WAL;\n',
})
