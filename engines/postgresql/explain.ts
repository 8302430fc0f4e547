/** What psql, pg_dump and pg_restore mean when they fail. Their messages are asked for in English (LC_ALL=C). */
import { HoldfastError } from '../../model/errors.ts'
import type { CommandResult } from '../engine.ts'
import { explainCommon, explainSignal, type StepWords, toolError } from '../explain.ts'
import { withoutSecrets } from '../tail.ts'
import { installs } from './client.ts'

/** psql prints the SQLSTATE of our own scripts' errors; pg_dump and pg_restore print the message only. */
const rules: readonly {
  code: Parameters<typeof toolError>[0]
  said: RegExp
  what: string
  hint?: string
}[] = [
  {
    code: 'tool.failed',
    said: /requested WAL segment \S+ has already been removed|could not find (any )?WAL files?\b|unexpected WAL file size/i,
    what: 'the server has removed WAL that the backup needs',
    hint: 'Raise wal_keep_size (a reload is enough), or back up in the format staged-tar, which streams WAL through a temporary slot.',
  },
  {
    code: 'backup.incomplete',
    said: /can only write single tablespace to stdout|holdfast: not in the plan/,
    what: 'a tablespace was made after the backup was planned',
    hint: 'Start it again.',
  },
  {
    code: 'backup.incomplete',
    said: /the standby was promoted during online backup/i,
    what: 'the standby that is backed up has become the primary',
    hint: 'Start it again: it is planned for the server as it is now.',
  },
  {
    code: 'backup.parent',
    said: /found in manifest, but not in this server's history|system identifier in (backup )?manifest|holdfast: made from another backup|manifest requires WAL from (initial|final) timeline|WAL summaries are required|could not (open|read|parse) (backup )?manifest/i,
    what: 'the server cannot make an incremental backup against the one before',
  },
  {
    code: 'database.corrupted',
    said: /checksum error occurred|checksum verification failed in file/i,
    what: 'pages of the server do not have their checksums',
  },
  {
    code: 'database.busy',
    said: /number of requested standby connections exceeds|all replication slots are in use/i,
    what: 'the server has no sender or slot left',
    hint: 'Raise max_wal_senders or max_replication_slots.',
  },
  {
    // Of the process that streams the WAL beside.
    code: 'tool.interrupted',
    said: /background process terminated unexpectedly|child process was terminated by signal/i,
    what: 'a process of it was ended',
  },
  {
    code: 'host.tool-version',
    said: /incompatible server version/i,
    what: 'pg_basebackup is older than the server',
  },
  {
    code: 'restore.target-exists',
    said: /mv: cannot (move|overwrite) .*(Directory not empty|File exists|Not a directory|with directory)/i,
    what: 'something came to be where the copy is to be',
  },
  {
    code: 'pitr.not-started',
    said: /pg_ctl: (could not start server|server did not start in time)/,
    what: 'the server does not start',
  },
  {
    code: 'tool.failed',
    said: /holdfast: the container was not started/,
    what: 'its container was not started',
    hint: 'Try the image by hand on that host; the words of its engine are shown.',
  },
  {
    code: 'restore.proof-failed',
    said: /pg_verifybackup: error:/,
    what: 'what was unpacked is not what backup_manifest names',
  },
  {
    code: 'restore.proof-failed',
    said: /holdfast: the copy does not start/,
    what: 'the copy does not start',
  },
  {
    code: 'backup.parent',
    said: /pg_combinebackup: error:/,
    what: 'these backups cannot be put together',
  },
  {
    code: 'database.authentication',
    said: /(password|peer|ident|SCRAM|GSSAPI|certificate|PAM|LDAP|RADIUS) authentication failed|no password supplied|fe_sendauth|no pg_hba\.conf entry|pg_hba\.conf rejects|role ".*" (does not exist|is not permitted to log in)$/im,
    what: 'the server refuses the login',
  },
  {
    code: 'database.missing',
    said: /FATAL: +(3D000: )?database ".*" does not exist/i,
    what: 'there is no such database on the server',
  },
  {
    code: 'database.unreachable',
    said: /could not connect|connection to server .* failed|could not translate host name|Connection refused|server closed the connection|the database system is (starting up|shutting down|in recovery)|terminating connection|connection .*lost|timeout expired|no connection to the server|not accepting connections|too many (clients|connections)|remaining connection slots/i,
    what: 'the server does not answer, or ended the connection',
  },
  {
    code: 'host.tool-version',
    said: /server version mismatch|unsupported version \(.*\) in file header/i,
    what: 'the client tool is older than the server or the backup',
  },
  {
    code: 'restore.target-exists',
    said: /42P04|database ".*" already exists/i,
    what: 'a database of that name exists already',
  },
  {
    code: 'restore.mismatch',
    said: /invalid (LC_COLLATE|LC_CTYPE|locale)|locale name|could not (create|open) (locale|collator)|encoding ".*" does not match locale|ICU is not supported/i,
    what: "the target server does not know the database's locale",
    hint: 'Install the locale on the target server (Debian: dpkg-reconfigure locales) and restart it.',
  },
  {
    code: 'restore.roles-missing',
    said: /role ".*" does not exist/i,
    what: 'a role of the backup does not exist on the target',
  },
  {
    code: 'restore.mismatch',
    said: /could not open extension control file|extension ".*" is not available/i,
    what: 'an extension of the backup is not installed on the target server',
    hint: 'Install the named extension on the target server.',
  },
  {
    code: 'database.busy',
    said: /canceling statement due to (lock|statement) timeout|could not obtain lock|55P03|is being accessed by other users|deadlock detected/i,
    what: 'another session holds a lock for too long',
  },
  {
    code: 'database.privilege',
    said: /permission denied|must be (owner|superuser|member|able)|42501|query would be affected by row-level security|insufficient privilege/i,
    what: 'the user of the connection lacks a privilege',
  },
  {
    code: 'database.privilege',
    said: /out of shared memory|max_locks_per_transaction/i,
    what: 'the lock table of the server is too small',
    hint: 'Raise max_locks_per_transaction and restart the server.',
  },
  {
    code: 'artifact.truncated',
    said: /could not read from input file: end of file|unexpected end of file|could not find block ID|Unexpected EOF in archive/i,
    what: 'the dump ends too early',
  },
  {
    code: 'artifact.corrupted',
    said: /did not find magic string|input file (does not appear to be|appears to be)|corrupt tar header|found unexpected block ID|unrecognized data block type|This does not look like a tar archive/i,
    what: 'the dump is damaged',
  },
]

/** What our own statements refuse says its code itself. */
const refusal =
  /^(?:.*ERROR: +(?:[0-9A-Z]{5}: )?)?holdfast (restore\.(?:target-changed|swap-refused|not-started)|database\.(?:busy|changed)|wal\.other-archiver): (.*)$/m

export function explain(result: CommandResult, step: StepWords): HoldfastError | undefined {
  const said = result.stderrTail
  const refused = refusal.exec(said)
  if (refused) {
    const code = refused[1] as Parameters<typeof toolError>[0]
    return new HoldfastError(
      code,
      `${step.title}: ${withoutSecrets(refused[2] ?? '').replace(/\.? *$/, '.')}`,
    )
  }
  // The query that follows is longer than the last words that are quoted.
  const full = /ERROR: +(.*(No space left on device|Disk quota exceeded))/.exec(said)
  if (full && step.writesTo !== 'target') {
    const what = `the file system of the database server is full: ${withoutSecrets(full[1] ?? '')}`
    return toolError('database.full', result, step, what)
  }
  // What the server says of its own disk is no news of staging; of a restore's target it is.
  const own = step.writesTo === 'staging' ? said.replace(/^.*ERROR: .*$/gm, '') : said
  const common = explainCommon({ ...result, stderrTail: own }, step, installs)
  if (common) return common
  for (const rule of rules) {
    if (rule.said.test(said)) return toolError(rule.code, result, step, rule.what, rule.hint)
  }
  return explainSignal(result, step)
}
