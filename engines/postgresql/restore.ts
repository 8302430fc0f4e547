/**
 * Restores of PostgreSQL, always beside: into a database of a temporary name that carries the token and a comment as
 * our mark; proofs follow; then one transaction gives owner, grants, settings and the final name.
 */
import { HoldfastError } from '../../model/errors.ts'
import type { Manifest } from '../../model/manifest.ts'
import type { Command, RestorePlan, RestoreTarget, ServerFacts, Step } from '../engine.ts'
import { checkedToken } from '../names.ts'
import { conninfo, psql, tool } from './client.ts'
import { databaseProblem, type PostgresqlConnection } from './connection.ts'
import { type PostgresqlFacts, postgresqlFacts, serverFacts, type TargetServerFacts } from './facts.ts'
import { clearSql, createSql, doneSql, markOf, originalCommentSql, renameSql } from './statements.ts'

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
  const facts = postgresqlFacts.parse(manifest.facts)
  const server = serverFacts.parse(targetFacts.facts.server)
  const temporary = temporaryName(target.token)
  const sql = (script: string): Command =>
    psql(target.connection, settings, settings.maintenanceDatabase, script)
  const names = { temporary, final: target.database, mark: markOf(target.token) }
  const create: Step = {
    ...step('create', 'create the temporary database', sql(createSql(names, facts, server, target.noOwner))),
    group: 'load',
  }
  const load = loadSteps(settings, target, temporary, artifact, facts, server)
  return {
    steps: [...load.before, create, load.step],
    finish: [
      {
        ...step(
          'name',
          `owner, grants, settings, name "${target.database}"`,
          sql(renameSql(names, facts, target.noOwner)),
        ),
        done: sql(doneSql(names)),
      },
      // Apart and repeatable: until then the mark in the comment says that the rename was ours.
      step('comment', 'original comment', sql(originalCommentSql(names, facts))),
    ],
    destroys: [],
    undo: [sql(clearSql(names, server.versionNum))],
  }
}

const step = (id: string, title: string, run: Command): Step => ({
  id,
  title,
  run,
  output: { to: 'none' },
  resume: 'restart',
  writesTo: 'target',
})
const one = (...argv: [string, ...string[]]): Command => ({ stages: [{ argv }] })

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

function loadSteps(
  settings: PostgresqlConnection,
  target: RestoreTarget,
  temporary: string,
  artifact: Manifest['artifacts'][number],
  facts: PostgresqlFacts,
  server: TargetServerFacts,
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
  if (artifact.format === 'pgdump-custom') {
    return {
      before: [],
      step: {
        ...step('load', 'pg_restore, custom format', restore('-Fc')),
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
    `The backup holds "${artifact.format}"; PostgreSQL restores pgdump-custom and pgdump-directory-tar.`,
  )
}
