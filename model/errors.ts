/**
 * The one table of error codes. Each says how the workflow treats it (`class`), what the API and the CLI answer,
 * and what the reader can do. Codes are stable: scripts match on them.
 */

export type ErrorClass = 'transient' | 'throttled' | 'needs-operator' | 'permanent' | 'cancelled'

interface ErrorRow {
  class: ErrorClass
  /** HTTP status when the API answers with it. */
  status: number
  /** Exit code of the CLI (0 done, 1 failed, 2 usage, 3 refused, 4 not found, 5 conflict, 6 parked, 7 cancelled, 8 unreachable). */
  exit: number
  title: string
  hint: string
}

const row = (cls: ErrorClass, status: number, exit: number, title: string, hint: string): ErrorRow => ({
  class: cls,
  status,
  exit,
  title,
  hint,
})

export const errorTable = {
  // Requests
  'request.invalid': row(
    'permanent',
    422,
    2,
    'The request is not valid',
    'Correct the named fields and send it again.',
  ),
  'request.too-large': row('permanent', 413, 2, 'The request body is too large', 'Send less than 1 MiB.'),
  'request.unauthenticated': row(
    'needs-operator',
    401,
    3,
    'No valid token',
    'Send "Authorization: Bearer TOKEN"; `holdfast up` prints where the token is kept.',
  ),
  'request.forbidden': row(
    'permanent',
    403,
    3,
    'That is not allowed to this user or token',
    'Use a user or token with the needed role and scope.',
  ),
  'request.password': row(
    'permanent',
    401,
    3,
    'User or password is not right',
    'Try again; after some wrong tries there is a pause between them.',
  ),
  'request.rate-limited': row(
    'throttled',
    429,
    3,
    'Too many tries',
    'Wait as long as the detail says, then try again.',
  ),
  'request.changed': row(
    'permanent',
    412,
    5,
    'It was changed meanwhile',
    'Read it again, then send the change with its new ETag.',
  ),
  'user.last-admin': row(
    'permanent',
    409,
    3,
    'It is the last user with the role admin',
    'Give another user the role admin first.',
  ),
  'request.mismatch': row(
    'permanent',
    422,
    2,
    'What was named does not go together',
    'Name the place without its destination, or a place that lies in it.',
  ),
  'request.not-found': row(
    'permanent',
    404,
    4,
    'There is no such thing',
    'List what there is, then use one of the names shown.',
  ),
  'request.exists': row(
    'permanent',
    409,
    5,
    'That name is taken',
    'Choose another name, or remove the existing one first.',
  ),
  'request.in-use': row(
    'permanent',
    409,
    5,
    'It is still in use',
    'Remove or finish what uses it first; the detail names it.',
  ),
  'request.idempotency-mismatch': row(
    'permanent',
    409,
    5,
    'This Idempotency-Key was used for another request',
    'Use a new key for a different request.',
  ),
  'request.under-way': row(
    'transient',
    409,
    5,
    'This very request is being answered elsewhere',
    'Send it again with the same Idempotency-Key, to get the same answer.',
  ),
  'operation.conflict': row(
    'permanent',
    409,
    5,
    'Another operation holds this server',
    'Wait for the named operation or cancel it.',
  ),
  'operation.cancelled': row(
    'cancelled',
    409,
    7,
    'The operation was cancelled',
    'Nothing is left behind; start it again when you are ready.',
  ),
  'operation.terminated': row(
    'permanent',
    409,
    1,
    'The workflow was ended from outside',
    'Start the operation again; leftovers are removed by `holdfast sweep`.',
  ),
  'operation.state': row(
    'permanent',
    409,
    5,
    'The operation is not in a state for that',
    'See its state with `holdfast operation show`.',
  ),
  'operation.paused': row(
    'cancelled',
    409,
    6,
    'The operation is paused',
    'Resume it with `holdfast operation resume`.',
  ),
  // Host and staging (worker or database server file system)
  'host.unreachable': row(
    'transient',
    503,
    8,
    'The host cannot be reached',
    'Check that the machine is up and reachable.',
  ),
  'host.no-worker': row(
    'transient',
    503,
    8,
    'Nobody answers for a host that has a worker of its own',
    'On that machine: `holdfast worker --host HOST`. What waits for it goes on then.',
  ),
  'host.key-unknown': row(
    'needs-operator',
    409,
    3,
    "Nobody has agreed to the host's key yet",
    'Compare the fingerprint with `ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub` on that machine, then: `holdfast host trust HOST`.',
  ),
  'host.key-changed': row(
    'needs-operator',
    409,
    3,
    'The host shows another key than the one that was agreed to',
    'Somebody may sit in between. If the machine was set up anew, compare the fingerprint there, then: `holdfast host trust HOST`.',
  ),
  'host.authentication': row(
    'needs-operator',
    422,
    1,
    'The host refuses the login',
    "Check user, key and password, and that machine's sshd log.",
  ),
  'host.sudo': row(
    'needs-operator',
    422,
    1,
    'sudo refuses on the host',
    'Let the login run /bin/sh as that user without a password.',
  ),
  'host.tool-missing': row(
    'needs-operator',
    422,
    1,
    'A tool is not installed on the host',
    'Install the named tool on the machine that runs it, then start again.',
  ),
  'host.tool-version': row(
    'needs-operator',
    422,
    1,
    'The tool is older than the server',
    "Install client tools of the server's version or newer.",
  ),
  'host.job-lost': row(
    'transient',
    503,
    1,
    'The running tool vanished without an exit code',
    'It is started again by itself; if it recurs, look for the out-of-memory killer or a reboot.',
  ),
  'staging.full': row(
    'needs-operator',
    507,
    1,
    'The staging file system is full',
    "Free space in the staging directory (HOLDFAST_TEMP_DIR, or the host's) or point it to a larger file system, then start again.",
  ),
  'staging.promised': row(
    'transient',
    503,
    1,
    'The free space in staging is promised to other operations',
    'It begins by itself once there is room: when they have ended, or when you make some.',
  ),
  'staging.quota': row(
    'needs-operator',
    507,
    1,
    'The staging quota is used up',
    'Raise the quota of the user that writes to the staging directory.',
  ),
  'staging.permission': row(
    'needs-operator',
    500,
    1,
    'Staging cannot be written',
    'Give the user that tools run as a staging directory of its own.',
  ),
  'staging.read-only': row(
    'needs-operator',
    500,
    1,
    'The staging file system is read-only',
    'Remount it writable or put the staging directory elsewhere.',
  ),
  'staging.changed': row(
    'transient',
    500,
    1,
    'A staged file changed under the upload',
    'A new attempt is made by itself.',
  ),
  // Destinations
  'destination.full': row(
    'needs-operator',
    507,
    1,
    'The destination is full',
    'Free space or raise the quota there, then start again.',
  ),
  'destination.denied': row(
    'needs-operator',
    422,
    1,
    'The destination refuses access',
    'Check the credentials and the policy for the named permission.',
  ),
  'destination.missing': row(
    'needs-operator',
    422,
    1,
    'The bucket or directory does not exist',
    "Create it, or correct the destination's URI.",
  ),
  'destination.misconfigured': row(
    'needs-operator',
    422,
    1,
    'The destination does not accept these settings',
    'Check endpoint, region and path style.',
  ),
  'destination.throttled': row(
    'throttled',
    503,
    8,
    'The destination asks to slow down',
    'It is retried by itself.',
  ),
  'destination.unreachable': row(
    'transient',
    503,
    8,
    'The destination cannot be reached',
    'It is retried by itself; check endpoint and network if it lasts.',
  ),
  'destination.corrupted': row(
    'transient',
    502,
    1,
    'The destination stored other bytes than were sent',
    'It is tried again by itself; if it recurs, stop using this destination.',
  ),
  'destination.read-only': row(
    'permanent',
    409,
    3,
    'This installation may not write to the destination',
    'Another installation holds the prefix. If it is gone for good, run `holdfast takeover DESTINATION`.',
  ),
  'destination.locked': row(
    'permanent',
    409,
    3,
    'The object is locked against removal',
    'It may be removed once the lock has ended, or the legal hold was lifted; `holdfast sweep` then removes what was given up.',
  ),
  'destination.archived': row(
    'permanent',
    409,
    1,
    'The object lies in an archive, and cannot be read before it was brought back',
    'A restore brings it back by itself, as does `holdfast backups verify BACKUP --thaw`; elsewhere do so with the tools of the store.',
  ),
  'destination.object-missing': row(
    'permanent',
    404,
    1,
    'An object of the backup is missing',
    'Verify the backup; restore from another one.',
  ),
  'destination.upload-gone': row(
    'permanent',
    409,
    1,
    'The upload no longer exists',
    'Another attempt has replaced this one.',
  ),
  'destination.exists': row(
    'permanent',
    409,
    5,
    'The object is there already',
    'Read it to settle what it is.',
  ),
  // Backups and artifacts
  'backup.not-found': row(
    'permanent',
    404,
    4,
    'There is no such backup',
    'List backups with `holdfast backups list`.',
  ),
  'backup.deleted': row('permanent', 410, 4, 'This backup was given up or deleted', 'Choose another backup.'),
  'backup.partial': row(
    'permanent',
    500,
    9,
    'The backup exists, but not at every destination that it was asked for',
    'It is copied to the others by itself; see to what is away.',
  ),
  'backup.incomplete': row(
    'permanent',
    500,
    1,
    'The tool did not write a complete backup',
    "See the tool's last lines; correct the cause and start again.",
  ),
  'backup.parent': row(
    'permanent',
    409,
    3,
    'There is no backup that this one can lean on',
    'Take a full backup; incremental ones can be made against it.',
  ),
  'artifact.truncated': row(
    'permanent',
    500,
    1,
    'The artifact is cut short',
    'Restore from another backup or copy; this one is damaged.',
  ),
  'artifact.corrupted': row(
    'permanent',
    500,
    1,
    "The artifact's bytes are not the ones that were written",
    'Restore from another backup or copy; this one is damaged.',
  ),
  'artifact.malformed': row(
    'permanent',
    500,
    1,
    'The bytes are as they were written, and are no whole dump',
    'The tool that wrote it failed, or somebody changed it before it was stored: use another backup, and look at its log.',
  ),
  'artifact.unknown-format': row(
    'permanent',
    422,
    2,
    'It is of a format that Holdfast cannot read',
    'Nothing is said about whether it is whole; ask the tool that wrote it.',
  ),
  'scrub.damaged': row(
    'permanent',
    500,
    1,
    'Verification found damaged backups',
    'See its warnings for which and where; make new backups of these databases.',
  ),
  'sweep.incomplete': row(
    'permanent',
    500,
    1,
    'Not every place could be swept',
    'See its warnings for which and why; sweep again when they answer.',
  ),
  'manifest.missing': row(
    'permanent',
    404,
    1,
    'The backup has no manifest',
    'Without a manifest it is not a backup; choose another.',
  ),
  'manifest.invalid': row(
    'permanent',
    500,
    1,
    'The manifest cannot be read',
    'Restore from another backup; do not edit manifests.',
  ),
  'manifest.forged': row(
    'permanent',
    500,
    3,
    "The manifest's signature is not of a trusted installation",
    'Do not use this backup unless you can say who wrote it; give `recover` the right key file or fingerprint.',
  ),
  // Log archives
  'wal.different': row(
    'permanent',
    409,
    5,
    'The archive holds another file of this name',
    'Two servers archive into one place, or a copy of this one does. Stop archiving on the wrong one; nothing was written over.',
  ),
  'wal.foreign': row(
    'permanent',
    409,
    3,
    'The log file is of another server',
    'Name the configuration of this server with --config; a new data directory needs a new one: `holdfast wal init`.',
  ),
  'wal.unreadable': row(
    'permanent',
    422,
    1,
    'The log file cannot be archived as it is',
    'See what the detail says; the agent has to run as the user that PostgreSQL runs as.',
  ),
  'wal.no-archive': row(
    'permanent',
    404,
    1,
    'There is no log archive of this server',
    'Check the destination (is it mounted?), and connection and system identifier in wal.json. A new archive: `holdfast wal begin`.',
  ),
  'wal.not-postgresql': row(
    'permanent',
    409,
    3,
    'There is no log of this server to recover from',
    'Recovery to a point in time is there for PostgreSQL; its role needs to read pg_control_system(): GRANT pg_monitor.',
  ),
  'wal.no-base': row(
    'permanent',
    409,
    3,
    'No physical backup reaches into the archived log',
    'Make a physical backup; what is committed after it can be recovered.',
  ),
  'wal.gap': row(
    'permanent',
    404,
    1,
    'A file is missing in the middle of the log archive',
    'If the server still has it in pg_wal: `holdfast wal repair` there. Else recover to a place before it, or from a base backup after it.',
  ),
  'wal.damaged': row(
    'permanent',
    500,
    1,
    'The file in the archive is not as it was written',
    'Use another copy; else recovery ends before it, and a new base backup is needed.',
  ),
  'wal.forged': row(
    'permanent',
    500,
    3,
    'The file in the archive was signed by nobody who is trusted',
    'Enter the archiver of that host under `trust` in wal.json, if you can say that it is one of yours.',
  ),
  // Keys
  'key.missing': row(
    'needs-operator',
    422,
    1,
    'The key that opens this backup is not here',
    'Put the key file into the keys directory, or name it with --key.',
  ),
  'key.locked': row(
    'needs-operator',
    422,
    1,
    'The key that opens this backup is locked',
    'Open it for a while: holdfast keys unlock NAME.',
  ),
  'key.needed': row(
    'permanent',
    409,
    3,
    'The key is still needed',
    'Let another key take its place: holdfast keys rotate NAME --to OTHER. What then is left is named with its reason.',
  ),
  'tiering.incomplete': row(
    'permanent',
    409,
    1,
    'Some backups could not be moved to a colder class',
    'Mend what the warnings say, then move again: what is done stays done.',
  ),
  'key.rotation-incomplete': row(
    'permanent',
    409,
    1,
    'Some backups open only with the old key',
    'Mend what the warnings say, then rotate again: what is done stays done.',
  ),
  'secret.missing': row(
    'needs-operator',
    422,
    1,
    'A secret is not where its reference says',
    'Put it there, for the API and for each worker.',
  ),
  'secret.denied': row(
    'needs-operator',
    422,
    3,
    'A secret may not be read where its reference says',
    'Allow the API and each worker to read it.',
  ),
  'secret.unreachable': row(
    'transient',
    503,
    8,
    'The secrets manager does not answer',
    'Start it, or mend the way to it; it is tried again.',
  ),
  'key.kms-denied': row(
    'needs-operator',
    422,
    3,
    'The key management service refuses us',
    'Allow the credentials of the process that has the keys (the API) to encrypt and decrypt with this key.',
  ),
  'key.kms-unusable': row(
    'needs-operator',
    422,
    1,
    'The key management service does not use this key',
    'Look at the key there: it may be disabled, waiting for its deletion, or of another kind.',
  ),
  'key.kms-unreachable': row(
    'transient',
    503,
    8,
    'The key management service does not answer',
    'Check the network of the process that has the keys (the API); it is tried again.',
  ),
  'key.passphrase-wrong': row(
    'permanent',
    403,
    4,
    'This is not the passphrase of the key',
    'Try again; upper and lower case count.',
  ),
  'key.invalid': row(
    'permanent',
    422,
    2,
    'The key file cannot be used',
    'Use a file made by `holdfast keys new`, or a PEM public key for --public.',
  ),
  // Databases and tools
  'database.unreachable': row(
    'needs-operator',
    503,
    1,
    'The database does not answer',
    'Check that it runs and that host and port are right.',
  ),
  'database.authentication': row(
    'needs-operator',
    422,
    1,
    'The database refuses the credentials',
    'Correct user or password of the connection.',
  ),
  'database.full': row(
    'needs-operator',
    507,
    1,
    "The database server's own file system is full",
    'Free space on the database server (data directory, temporary tablespaces), then resume.',
  ),
  'database.privilege': row(
    'needs-operator',
    422,
    1,
    'The database user lacks a privilege',
    "Grant the named privilege to the connection's user.",
  ),
  'database.missing': row(
    'permanent',
    404,
    4,
    'There is no such database',
    'Check the database name or the file path.',
  ),
  'database.version': row(
    'permanent',
    422,
    1,
    'This server version is not supported',
    'See the support table.',
  ),
  'database.changed': row(
    'permanent',
    409,
    3,
    'The server is not the one this was planned for',
    'Look at the connection; if the change is meant, remove and add the connection again.',
  ),
  'database.corrupted': row(
    'permanent',
    422,
    1,
    'The database is damaged',
    "Repair it with the engine's own tools, or restore an older backup.",
  ),
  'database.busy': row(
    'transient',
    503,
    1,
    'The database is locked by another session',
    'It is tried again by itself.',
  ),
  'tool.failed': row(
    'permanent',
    500,
    1,
    'The tool failed',
    'Its last lines are shown; correct what they name and start again.',
  ),
  'tool.interrupted': row(
    'transient',
    500,
    1,
    'The tool was stopped by a signal',
    'It is run again by itself; if it recurs, look for the out-of-memory killer.',
  ),
  'hook.failed': row(
    'permanent',
    500,
    1,
    'A hook failed',
    'See what it printed with `holdfast operation log`; correct it, or let its failure only warn.',
  ),
  // Restores
  'restore.target-exists': row(
    'permanent',
    409,
    3,
    'The target exists already',
    'Choose a name that does not exist, or ask for it to be replaced: --overwrite-existing, which somebody has to approve.',
  ),
  'restore.target-full': row(
    'needs-operator',
    507,
    1,
    "The target's file system is full",
    'Free space for the restored database, then start again.',
  ),
  'restore.target-quota': row(
    'needs-operator',
    507,
    1,
    "The quota on the target's file system is used up",
    "Raise the quota of the user that writes the restored database (for a server: the server's own), then start again.",
  ),
  'restore.target-permission': row(
    'needs-operator',
    500,
    1,
    'The target may not be written',
    'Give the user that tools run as (for a server: its own) access to where the restored database lies.',
  ),
  'restore.target-read-only': row(
    'needs-operator',
    500,
    1,
    "The target's file system is read-only",
    'Remount it writable, or restore to another place.',
  ),
  'restore.mismatch': row(
    'permanent',
    422,
    2,
    'Backup and target do not fit each other',
    'Choose a target of the same engine and method.',
  ),
  'restore.unread': row(
    'permanent',
    409,
    3,
    'Nobody has read this foreign backup to its end yet',
    'Read it once: holdfast backups verify BACKUP --level deep; then restore it.',
  ),
  'restore.roles-missing': row(
    'permanent',
    422,
    1,
    'Roles of the backup do not exist on the target',
    'Create the named roles, or restore with --no-owner.',
  ),
  'restore.proof-failed': row(
    'permanent',
    500,
    1,
    'The restored database is not what was backed up',
    'The copy was removed; the detail says what differs.',
  ),
  'restore.target-changed': row(
    'permanent',
    409,
    3,
    'The target is not the one that the plan replaces',
    'Nothing was replaced. Ask for the restore again: a new plan names what is there now.',
  ),
  'restore.swap-refused': row(
    'permanent',
    409,
    3,
    'The target cannot be replaced as it is',
    'Remove what the detail names, or restore beside under another name.',
  ),
  'restore.safety-backup': row(
    'permanent',
    422,
    1,
    'The safety backup cannot be made',
    'Nothing was replaced. Name a destination, and a connection of the database that is to be replaced.',
  ),
  // Approvals
  'approval.password': row(
    'permanent',
    403,
    3,
    'The password is not that of the user',
    'Approve as a user of your own, with the password of that user.',
  ),
  'approval.name': row(
    'permanent',
    422,
    3,
    'The name is not that of the target',
    'Type the name exactly as the plan shows it.',
  ),
  'approval.plan-changed': row(
    'permanent',
    409,
    3,
    'The plan is not the one that was looked at',
    'Look at the plan again, then approve its digest; or ask for the restore again.',
  ),
  'approval.expired': row(
    'permanent',
    410,
    3,
    'The request has expired',
    'Nothing was replaced. Ask for the restore again.',
  ),
  'approval.used': row(
    'permanent',
    409,
    3,
    'The approval was used already',
    'An approval is good for one run. Ask for the restore again.',
  ),
  'approval.unknown': row(
    'permanent',
    403,
    3,
    'There is no such approval',
    'Approve with `holdfast approve OPERATION`; a signal alone is worth nothing.',
  ),
  'approval.second-person': row(
    'permanent',
    403,
    3,
    'Somebody else has to approve this',
    'Ask another approver; or waive the second person with --break-glass, which is announced.',
  ),
  'approval.not-wanted': row(
    'permanent',
    409,
    3,
    'The operation does not wait for an approval',
    'See its state with `holdfast operation show`.',
  ),
  'approval.rejected': row(
    'permanent',
    409,
    3,
    'The request was rejected',
    'Nothing was replaced. Ask whoever rejected it.',
  ),
  // Surroundings
  'temporal.unreachable': row(
    'transient',
    503,
    8,
    'Temporal does not answer',
    'Check HOLDFAST_TEMPORAL_ADDRESS and that the service runs.',
  ),
  'api.unreachable': row(
    'transient',
    503,
    8,
    'The Holdfast API does not answer',
    'Start it with `holdfast up`, or set HOLDFAST_URL.',
  ),
  'notification.failed': row(
    'transient',
    500,
    1,
    'Nobody could be notified',
    'Check the program named by HOLDFAST_NOTIFY_COMMAND.',
  ),
  // Catalog
  'catalog.busy': row(
    'permanent',
    503,
    5,
    'Another process has the catalog open',
    'One Holdfast owns a catalog: stop the other one, or use another HOLDFAST_HOME.',
  ),
  'audit.broken': row(
    'permanent',
    500,
    1,
    'The audit is not as it was written',
    'Find out who can write to the catalog; compare with a copy of it from before.',
  ),
  'catalog.newer': row(
    'permanent',
    500,
    1,
    'The catalog was written by a newer Holdfast',
    'Start the newer version; going back is not possible.',
  ),
  'catalog.moved': row(
    'permanent',
    503,
    3,
    'The catalog was moved elsewhere',
    'Set HOLDFAST_CATALOG_URL to the new place. To use this one again: `holdfast catalog move --undo`.',
  ),
  'catalog.differs': row(
    'permanent',
    500,
    1,
    'The copy of the catalog is not what was sent',
    'Nothing was changed; try again, and report it if it stays so.',
  ),
  'catalog.secret-key': row(
    'needs-operator',
    500,
    2,
    'The secret key does not open this catalog',
    'Set HOLDFAST_SECRET_KEY (or put back its file) as it was when the secrets were stored.',
  ),
  'catalog.unreachable': row(
    'transient',
    503,
    8,
    "The catalog's database does not answer",
    'Check that the server in HOLDFAST_CATALOG_URL runs and can be reached.',
  ),
  'catalog.overloaded': row(
    'transient',
    503,
    8,
    "The catalog's database does not keep up",
    'Try again; if it lasts, look for long transactions there and raise max_connections.',
  ),
  'catalog.full': row(
    'needs-operator',
    507,
    1,
    'There is no room for the catalog',
    "Free space on the file system of the catalog's database.",
  ),
  'catalog.denied': row(
    'needs-operator',
    500,
    3,
    "The catalog's database refuses us",
    'Check user, password, database and TLS of HOLDFAST_CATALOG_URL; the user must own the database.',
  ),
  'settings.invalid': row('permanent', 500, 2, 'A setting is not valid', 'Correct the named setting.'),
  internal: row(
    'permanent',
    500,
    1,
    'Something unexpected happened inside Holdfast',
    'Please report it with the operation id.',
  ),
} as const satisfies Record<string, ErrorRow>

export type ErrorCode = keyof typeof errorTable

/** What travels of an error: to Temporal, the API, the CLI and logs. Never holds a secret. */
export interface ErrorFacts {
  code: ErrorCode
  /** What was being done, to what, and what happened. One or two sentences. */
  detail: string
  /** What to do; the table's hint unless the place knows better. */
  hint: string
  /** Small facts for programs: exitCode, stderrTail, path, holder … */
  context?: Record<string, string | number | boolean>
}

/** The only error class thrown on purpose. `detail` says what was being done, to what, and what happened. */
export class HoldfastError extends Error {
  readonly code: ErrorCode
  readonly hint: string
  readonly context: Record<string, string | number | boolean>

  constructor(
    code: ErrorCode,
    detail: string,
    options: { hint?: string; context?: Record<string, string | number | boolean>; cause?: unknown } = {},
  ) {
    super(detail, options.cause === undefined ? undefined : { cause: options.cause })
    this.name = 'HoldfastError'
    this.code = code
    this.hint = options.hint ?? errorTable[code].hint
    this.context = options.context ?? {}
  }

  facts(): ErrorFacts {
    return { code: this.code, detail: this.message, hint: this.hint, context: this.context }
  }
}

/** Whether it is one of ours with one of these codes. */
export const hasCode = (error: unknown, ...codes: ErrorCode[]): error is HoldfastError =>
  error instanceof HoldfastError && codes.includes(error.code)

export const errorClass = (code: ErrorCode): ErrorClass => errorTable[code].class
export const isErrorCode = (code: unknown): code is ErrorCode =>
  typeof code === 'string' && Object.hasOwn(errorTable, code)
