/** Every workflow type by its name. */
export { backup } from './backup.ts'
export { copy } from './copy.ts'
export { request } from './request.ts'
export { restore } from './restore.ts'
export { retire } from './retire.ts'
export { rotateKeys } from './rotate-keys.ts'
export { scheduledBackup, scheduledVerify } from './scheduled.ts'
export { verify } from './verify.ts'
