/** Questions around a PostgreSQL restore: may the target be written, and is the copy what was backed up? */
import { z } from 'zod'
import { isForeignId } from '../../model/foreign.ts'
import type { Manifest } from '../../model/manifest.ts'
import type { CheckResult } from '../../model/types.ts'
import type { Probe, RestoreTarget } from '../engine.ts'
import { answer } from './answer.ts'
import { psql } from './client.ts'
import { databaseProblem, type PostgresqlConnection } from './connection.ts'
import { askExisting, replaceable } from './existing.ts'
import { countsSql, factsOf, type ObjectCounts, objectKinds, readCounts, targetSql } from './facts.ts'
import { majorOf, versionOf } from './probe.ts'
import { temporaryName } from './restore.ts'

const targetAnswer = z.object({
  versionNum: z.int(),
  version: z.string(),
  inRecovery: z.boolean(),
  user: z.string(),
  createDatabases: z.boolean(),
  exists: z.boolean(),
  missingRoles: z.array(z.string()),
  notMember: z.array(z.string()),
  missingExtensions: z.array(z.string()),
})

export function targetChecks(
  settings: PostgresqlConnection,
  target: RestoreTarget,
  manifest: Manifest,
): Probe<CheckResult[]> {
  const problem = databaseProblem(target.database)
  if (problem !== undefined) {
    return {
      commands: {},
      read: () => [
        {
          id: 'target.name',
          title: 'Target name',
          answer: 'fail',
          code: 'request.invalid',
          detail: `target.database: the name "${target.database}" ${problem}.`,
        },
      ],
    }
  }
  const { server, database } = factsOf(manifest)
  const roles = target.noOwner
    ? database.neededRoles
    : Array.from(new Set([...database.roles, ...database.neededRoles]))
  return {
    commands: {
      target: psql(
        target.connection,
        settings,
        settings.maintenanceDatabase,
        targetSql(target.database, { roles, extensions: database.extensions.map(one => one.name) }),
      ),
      pg_restore: { stages: [{ argv: ['pg_restore', '--version'] }] },
      ...(target.replaces ? { there: askExisting(settings, target.connection, target.database) } : {}),
    },
    read(outputs) {
      const place = `the target server ${settings.host}:${settings.port}`
      const said = targetAnswer.parse(answer(outputs.target, `asking ${place} what it has`))
      const results: CheckResult[] = []
      const check = (
        id: string,
        title: string,
        ok: boolean,
        good: string,
        bad: Omit<CheckResult, 'id' | 'title'>,
      ) => results.push(ok ? { id, title, answer: 'pass', detail: good } : { id, title, ...bad })
      if (target.replaces) results.push(...replaceable(outputs.there, target, place))
      else {
        check('target.exists', 'Target is free', !said.exists, `There is no database "${target.database}".`, {
          answer: 'fail',
          code: 'restore.target-exists',
          detail: `A database "${target.database}" exists already on ${place}.`,
        })
      }
      check('target.primary', 'Target takes writes', !said.inRecovery, 'It is not a standby.', {
        answer: 'fail',
        code: 'restore.mismatch',
        detail: `${place} is a standby; it takes no writes.`,
      })
      check(
        'target.createdb',
        'Databases may be created',
        said.createDatabases,
        `User "${said.user}" may create databases.`,
        {
          answer: 'fail',
          code: 'database.privilege',
          detail: `User "${said.user}" may not create databases on ${place}.`,
          hint: 'ALTER ROLE … CREATEDB for the user of the connection.',
        },
      )
      check(
        'target.roles',
        'Roles of the backup',
        said.missingRoles.length === 0,
        `${roles.length} roles are there.`,
        {
          answer: 'fail',
          code: 'restore.roles-missing',
          detail: `Not on ${place}: ${said.missingRoles.join(', ')}.`,
        },
      )
      if (!target.noOwner) {
        check(
          'target.membership',
          'Objects may be given to their owners',
          said.notMember.length === 0,
          `User "${said.user}" may act for them.`,
          {
            answer: 'fail',
            code: 'database.privilege',
            detail: `User "${said.user}" is neither superuser nor member of ${said.notMember.join(', ')}.`,
            hint: 'Restore as a superuser, grant membership, or restore with --no-owner.',
          },
        )
      }
      check(
        'target.extensions',
        'Extensions of the backup',
        said.missingExtensions.length === 0,
        `${database.extensions.length} extensions are available.`,
        {
          answer: 'fail',
          code: 'restore.mismatch',
          detail: `Not installed on ${place}: ${said.missingExtensions.join(', ')}.`,
          hint: 'Install the packages of the named extensions on the target server.',
        },
      )
      check(
        'target.version',
        'Server version',
        Math.trunc(said.versionNum / 10000) >= Math.trunc(server.versionNum / 10000),
        `PostgreSQL ${said.version}, backup of ${server.version}`,
        {
          answer: 'warn',
          code: 'database.version',
          detail: `The target is PostgreSQL ${said.version}, older than the backup's ${server.version}: what the older version does not know will fail.`,
        },
      )
      const restoreVersion = versionOf(outputs.pg_restore)
      const dumpVersion = manifest.tools.find(one => one.name === 'pg_dump')?.version
      check(
        'target.tools',
        'pg_restore fits the backup',
        restoreVersion !== undefined && majorOf(restoreVersion) >= majorOf(dumpVersion),
        `pg_restore ${restoreVersion}`,
        {
          answer: 'fail',
          code: restoreVersion === undefined ? 'host.tool-missing' : 'host.tool-version',
          detail:
            restoreVersion === undefined
              ? 'pg_restore is not installed on this host.'
              : `pg_restore ${restoreVersion} is older than the pg_dump ${dumpVersion} that made the backup.`,
          hint:
            dumpVersion === undefined
              ? 'Install the client tools of PostgreSQL.'
              : `Install the client tools of PostgreSQL ${majorOf(dumpVersion)} or newer.`,
        },
      )
      return isForeignId(manifest.backupId) ? withoutNeeds(results) : results
    },
  }
}

const needs = ['target.roles', 'target.membership', 'target.extensions', 'target.version']

/** A check of nothing would pass. */
const withoutNeeds = (results: readonly CheckResult[]): CheckResult[] => [
  ...results.filter(({ id }) => !needs.includes(id)),
  {
    id: 'target.needs',
    title: 'What the dump needs',
    answer: 'warn',
    detail:
      'The roles, extensions and server version that a foreign backup needs are not known; pg_restore stops at the first that is missing, and nothing is left behind then.',
    hint: 'Where the roles are not there: --no-owner.',
  },
]

/** Counts the restored database's objects by kind. */
export function proofs(
  settings: PostgresqlConnection,
  target: RestoreTarget,
  manifest: Manifest,
  place: 'temporary' | 'swapped' = 'temporary',
): Probe<CheckResult[]> {
  const database = place === 'temporary' ? temporaryName(target.token) : target.database
  return {
    commands: { counts: psql(target.connection, settings, database, countsSql) },
    read(outputs) {
      const base =
        place === 'temporary'
          ? { id: 'proof.objects', title: 'Objects as at the backup' }
          : { id: 'proof.swapped', title: 'Objects as at the backup, in their place' }
      const found = readCounts(
        JSON.stringify(answer(outputs.counts, 'counting the objects of the restored database')),
      )
      if (isForeignId(manifest.backupId)) return [{ ...base, ...counted(found) }]
      const expected = factsOf(manifest).database.counts
      const differ = objectKinds.filter(kind => found[kind] !== expected[kind])
      const said = (kinds: readonly (typeof objectKinds)[number][]) =>
        kinds.map(kind => `${kind} ${found[kind]} of ${expected[kind]}`).join(', ')
      const lost = differ.filter(kind => found[kind] === 0)
      if (lost.includes('tables') || lost.length > 2) {
        return [
          {
            ...base,
            answer: 'fail',
            code: 'restore.proof-failed',
            detail: `Lost in the restore: ${said(lost)}.`,
          },
        ]
      }
      if (differ.length > 0) {
        // Counted just before the dump took its snapshot; pg_restore has restored every entry or failed.
        return [
          {
            ...base,
            answer: 'warn',
            detail: `Differs from what was counted just before the dump (${said(differ)}). Objects may have been created or dropped in between, or extensions differ.`,
          },
        ]
      }
      return [
        {
          ...base,
          answer: 'pass',
          detail: countWords(found),
        },
      ]
    },
  }
}

const countWords = (found: ObjectCounts): string =>
  objectKinds
    .filter(kind => found[kind] > 0)
    .map(kind => `${found[kind]} ${kind}`)
    .join(', ') || 'an empty database'

/** Nobody counted what a foreign backup was made of: only that something came of it can be seen. */
const counted = (found: ObjectCounts): Pick<CheckResult, 'title' | 'answer' | 'detail'> => ({
  title: 'Objects; what there were is not known of a foreign backup',
  answer: objectKinds.some(kind => found[kind] > 0) ? 'pass' : 'warn',
  detail: countWords(found),
})
