/** Every workflow type by its name. */
export { backup } from './backup.ts'
export { restore } from './restore.ts'
export { scheduledBackup, scheduledVerify } from './scheduled.ts'
export { verify } from './verify.ts'
