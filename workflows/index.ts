/** Every workflow type by its name. */
export { archiveLogs } from './archive-logs.ts'
export { askHost } from './ask-host.ts'
export { backup } from './backup.ts'
export { copy } from './copy.ts'
export { drill, tearDown } from './drill.ts'
export { enablePitr } from './enable-pitr.ts'
export { pitr } from './pitr.ts'
export { request } from './request.ts'
export { restore, takeBack } from './restore.ts'
export { retire } from './retire.ts'
export { rotateKeys } from './rotate-keys.ts'
export {
  scheduledBackup,
  scheduledDrill,
  scheduledScrub,
  scheduledSweep,
  scheduledTiering,
  scheduledVerify,
} from './scheduled.ts'
export { scrub } from './scrub.ts'
export { sweep } from './sweep.ts'
export { tellSomebody } from './tell-somebody.ts'
export { tiering } from './tiering.ts'
export { verify } from './verify.ts'
