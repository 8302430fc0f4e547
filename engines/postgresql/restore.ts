/**
 * Restores of PostgreSQL: into a database of a temporary name that carries the token and a comment as our mark; proofs
 * follow; then one transaction gives owner, grants, settings and the final name, or swaps it with the database of that name.
 */

import { z } from 'zod'
import { HoldfastError } from '../../model/errors.ts'
import type { Manifest } from '../../model/manifest.ts'
import type { Command, RestorePlan, RestoreTarget, ServerFacts, Stage, Step, Swap } from '../engine.ts'
import { checkedToken } from '../names.ts'
import { one, step } from '../steps.ts'
import { conninfo, identifier, piped, psql, tool } from './client.ts'
import { databaseProblem, type PostgresqlConnection } from './connection.ts'
import { existingFacts } from './existing.ts'
import { factsOf, type PostgresqlFacts, serverFacts, type TargetServerFacts } from './facts.ts'
import {
  clearSql,
  createSql,
  doneSql,
  markOf,
  originalCommentSql,
  type RestoreNames,
  renameSql,
  tryRenameSql,
} from './statements.ts'
import {
  exchangedSql,
  exchangeSql,
  identifyKeptSql,
  keptName,
  openedSql,
  openSql,
  rollBackSql,
  rolledBackSql,
  type SwapNames,
  tryOpenSql,
} from './swap.ts'

export const temporaryName = (token: string): string => `holdfast_${checkedToken(token).toLowerCase()}`

export function planRestore(
  settings: PostgresqlConnection,
  target: RestoreTarget,
  manifest: Manifest,
  targetFacts: ServerFacts,
): RestorePlan {
  const artifact = manifest.artifacts[0]
  if (manifest.engine !== 'postgresql' || artifact === undefined || manifest.artifacts.length !== 1) {
    throw new HoldfastError(
      'restore.mismatch',
      `Backup ${manifest.backupId} is of ${manifest.engine} with ${manifest.artifacts.length} artifacts; a PostgreSQL target takes one pg_dump artifact.`,
    )
  }
  const problem = databaseProblem(target.database)
  if (problem !== undefined) {
    throw new HoldfastError('request.invalid', `target.database: the name "${target.database}" ${problem}.`)
  }
  const facts = factsOf(manifest)
  const server = serverFacts.parse(targetFacts.facts.server)
  const temporary = temporaryName(target.token)
  const sql = (script: string): Command =>
    psql(target.connection, settings, settings.maintenanceDatabase, script)
  const names = { temporary, final: target.database, mark: markOf(target.token) }
  const swap = swapOf(settings, target, names, sql)
  const trial = swap ? tryOpenSql(swap.names) : tryRenameSql(names, facts, target.noOwner)
  const tablespace = swap?.tablespace ?? facts.database.tablespace
  const create: Step = {
    ...step(
      'create',
      'create the temporary database',
      sql(createSql(names, facts, server, tablespace) + trial),
    ),
    group: 'load',
  }
  const load = loadSteps(
    settings,
    target,
    temporary,
    artifact,
    facts,
    server,
    scriptFacts.parse(manifest.facts),
  )
  return {
    steps: [...load.before, create, load.step],
    finish: swap ? [] : finishSteps(names, facts, target.noOwner, sql),
    ...(swap ? { swap: swap.plan } : {}),
    destroys: swap ? swap.destroys : [],
    undo: [sql(clearSql(names, server.versionNum))],
  }
}

const finishSteps = (
  names: RestoreNames,
  facts: PostgresqlFacts,
  noOwner: boolean,
  sql: (script: string) => Command,
): Step[] => [
  {
    ...step('name', `owner, grants, settings, name "${names.final}"`, sql(renameSql(names, facts, noOwner))),
    done: sql(doneSql(names)),
  },
  // Apart and repeatable: until then the mark in the comment says that the rename was ours.
  step('comment', 'original comment', sql(originalCommentSql(names, facts))),
]

function swapOf(
  settings: PostgresqlConnection,
  target: RestoreTarget,
  restored: RestoreNames,
  sql: (script: string) => Command,
): { plan: Swap; names: SwapNames; tablespace: string; destroys: string[] } | undefined {
  if (target.replaces === undefined) return undefined
  const there = existingFacts.parse(target.replaces.facts)
  const final = target.database
  if (final === settings.maintenanceDatabase) {
    throw new HoldfastError(
      'restore.mismatch',
      `"${final}" is the database through which this connection does its work; it cannot be renamed meanwhile.`,
      { hint: 'Name another one with ?maintenance= in the URL of a connection made for this.' },
    )
  }
  const kept = keptName(target.token)
  const names: SwapNames = {
    ...restored,
    kept,
    token: target.token,
    oldOid: there.oid,
    systemIdentifier: there.systemIdentifier,
  }
  const id = (name: string) => identifier(name)
  return {
    names,
    tablespace: there.tablespace,
    destroys: [
      `${target.replaces.words}: its sessions are ended, and its content is replaced. Its owner, grants, settings, connection limit and comment stay as they are.`,
      `The old database is kept as "${kept}", closed to clients, for the grace period; then it is dropped.`,
    ],
    plan: {
      prepare: [],
      exchange: {
        ...step(
          'exchange',
          `rename "${final}" to "${kept}" and the copy to "${final}"`,
          sql(exchangeSql(names)),
        ),
        done: sql(exchangedSql(names)),
      },
      open: {
        ...step('open', `owner, grants, settings of the old database; let clients in`, sql(openSql(names))),
        done: sql(openedSql(names)),
      },
      rollBack: {
        ...step('roll-back', `rename "${kept}" back to "${final}"`, sql(rollBackSql(names))),
        done: sql(rolledBackSql(names)),
      },
      kept: {
        name: kept,
        identify: sql(identifyKeptSql(names)),
        look: `ALTER DATABASE ${id(kept)} ALLOW_CONNECTIONS true;`,
        goBack: `ALTER DATABASE ${id(final)} RENAME TO ${id(`${final.slice(0, 40)}_restored`)}; ALTER DATABASE ${id(kept)} ALLOW_CONNECTIONS true; ALTER DATABASE ${id(kept)} RENAME TO ${id(final)};`,
      },
    },
  }
}

/** What pg_restore is told for every format. */
function options(noOwner: boolean, facts: PostgresqlFacts, server: TargetServerFacts): string[] {
  const tablespaces = facts.database.tablespaces.every(name => server.tablespaces.includes(name))
  return [
    '-w',
    '--exit-on-error',
    // A copy must not begin to replicate; a database with a subscription cannot be dropped either.
    '--no-subscriptions',
    ...(noOwner ? ['--no-owner', '--no-acl'] : []),
    ...(tablespaces ? [] : ['--no-tablespaces']),
  ]
}

/**
 * Commands of psql itself, which reach the shell, are refused from before the first line on; a psql that cannot refuse them
 * fails at the first option. One transaction: what is cut or fails leaves nothing.
 */
const plainArgv = (token: string): [string, ...string[]] => [
  'psql',
  ...['-X', '-q', '-w', '-v', 'ON_ERROR_STOP=1', '-v', 'VERBOSITY=verbose', '--single-transaction'],
  ...['-o', '/dev/null', '-c', `\\restrict ${checkedToken(token)}`, '-f', '-'],
]

/**
 * A dump that brings restrictions of its own would lift them at its end: those two lines, told by their random key, go. At any
 * other word of lifting them sed ends with 3, and the load fails with it: psql before August 2026 runs what stands in
 * backquotes behind that word.
 */
function scripted(psql: Stage, key: string | undefined): Command {
  if (key !== undefined && !/^[A-Za-z0-9]+$/.test(key)) {
    throw new HoldfastError(
      'manifest.invalid',
      'The key of the restriction is not one of letters and digits.',
    )
  }
  const own = key === undefined ? [] : ['restrict', 'unrestrict'].map(word => `/^\\\\${word} ${key}$/d`)
  const lines = [...own, '/\\\\unrestrict/Q3'].flatMap(line => ['-e', line])
  return { stages: [{ argv: ['sed', ...lines], env: { LC_ALL: 'C' } }, psql] }
}

/** What plain SQL says at its beginning: engines/postgresql/reading/plain.ts. */
const scriptFacts = z.object({
  restrictKey: z.string().optional(),
  makes: z.enum(['cluster', 'database']).optional(),
})

/** Scripts that go to databases of their own choice cannot be loaded beside. */
const expectOneDatabase = ({ makes }: z.infer<typeof scriptFacts>): void => {
  if (makes === undefined) return
  throw makes === 'cluster'
    ? new HoldfastError(
        'restore.mismatch',
        'It is a script of a whole cluster (pg_dumpall): it makes roles and databases by itself, over what is there, and cannot be restored beside.',
        {
          hint: 'Load it into an empty server of its own (psql -X -f FILE postgres), then add and back up its databases from there.',
        },
      )
    : new HoldfastError(
        'restore.mismatch',
        'It is a script that makes its database by itself and connects to it (pg_dump --create): it cannot be restored under another name.',
        {
          hint: 'Take a dump without --create; or load it into an empty server of its own (psql -X -f FILE postgres), then back up its database from there.',
        },
      )
}

function loadSteps(
  settings: PostgresqlConnection,
  target: RestoreTarget,
  temporary: string,
  artifact: Manifest['artifacts'][number],
  facts: PostgresqlFacts,
  server: TargetServerFacts,
  script: z.infer<typeof scriptFacts>,
): { before: Step[]; step: Step } {
  const restore = (...argv: string[]): Command => ({
    stages: [
      tool(target.connection, settings, temporary, [
        'pg_restore',
        '-d',
        conninfo(temporary),
        ...options(target.noOwner, facts, server),
        ...argv,
      ]),
    ],
  })
  const streamed = {
    'pgdump-custom': ['custom format', '-Fc'],
    // Never made here: it is slower to restore and no smaller.
    'pgdump-tar': ['tar format', '-Ft'],
  } as const
  if (artifact.format === 'pgdump-custom' || artifact.format === 'pgdump-tar') {
    const [title, option] = streamed[artifact.format]
    return {
      before: [],
      step: {
        ...step('load', `pg_restore, ${title}`, piped(restore(option))),
        group: 'load',
        feeds: { artifact: artifact.name },
      },
    }
  }
  if (artifact.format === 'pgdump-plain') {
    expectOneDatabase(script)
    if (target.noOwner) {
      throw new HoldfastError(
        'restore.mismatch',
        'Plain SQL gives its objects to their owners by itself; it cannot be restored without them.',
        { hint: 'Make the roles first, or restore a dump of another format.' },
      )
    }
    const run = scripted(
      tool(target.connection, settings, temporary, plainArgv(target.token)),
      script.restrictKey,
    )
    return {
      before: [],
      step: {
        ...step('load', 'psql, plain SQL, restricted', run),
        group: 'load',
        feeds: { artifact: artifact.name },
      },
    }
  }
  if (artifact.format === 'pgdump-directory-tar') {
    const jobs = String(Math.max(1, target.jobs))
    const unpack = (id: string, title: string, run: Command): Step => ({
      ...step(id, title, run),
      group: 'unpack',
      writesTo: 'staging',
    })
    return {
      before: [
        unpack('clear-staging', 'clear an earlier try', one('rm', '-rf', '--', 'dump')),
        unpack('make-staging', 'staging directory', one('mkdir', '-m', '0700', '--', 'dump')),
        {
          // --ignore-zeros: reads to the real end, which is only said to be there once everything has proven itself.
          ...unpack(
            'unpack',
            'unpack the dump',
            one('tar', '-x', '--ignore-zeros', '--no-same-owner', '-C', 'dump', '-f', '-'),
          ),
          feeds: { artifact: artifact.name },
        },
      ],
      step: {
        ...step('load', `pg_restore, directory format, ${jobs} jobs`, restore('-Fd', '-j', jobs, 'dump')),
        group: 'load',
      },
    }
  }
  throw new HoldfastError(
    'restore.mismatch',
    `The backup holds "${artifact.format}"; PostgreSQL restores pgdump-custom, pgdump-directory-tar, pgdump-tar and pgdump-plain.`,
  )
}
