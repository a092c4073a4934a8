import { errorCode, errorMessage } from '../../common/errors.ts';
import { isDeleting } from '../planning/object-plan.ts';
import type { JobRemoval, JobsWorld, SeenJobs } from '../planning/plan-schedule-jobs.ts';
import { hasOpenJob } from '../planning/schedule-history.ts';
import { scheduleUidLabel } from '../resources/group.ts';
import { type Job, jobs } from '../resources/job.ts';
import { keyOf, type NewObject } from '../resources/kube-object.ts';
import type { SnapshotSchedule } from '../resources/snapshot-schedule.ts';
import type { ControllerContext } from './controller-context.ts';

/**
 * The Jobs of schedules in the Kubernetes API. They are listed when a schedule is looked at instead of being watched: that
 * needs no right where no schedule has a job, and a Job that is not in the list is not there.
 */
export class ScheduleJobs {
  readonly #context: ControllerContext;

  constructor(context: ControllerContext) {
    this.#context = context;
  }

  async seen({ metadata, spec, status }: SnapshotSchedule): Promise<SeenJobs> {
    if (spec?.job === undefined && !status?.history?.some(hasOpenJob)) return { kind: 'seen', jobs: [] };
    const { namespace = '', uid } = metadata;
    try {
      const { items } = await this.#context.api.list(jobs, { namespace, labelSelector: `${scheduleUidLabel}=${uid}` });
      return { kind: 'seen', jobs: items };
    } catch (error) {
      const hint = errorCode(error) === 'Invalid' ? '; it needs operator.jobs of the chart' : '';
      return { kind: 'unseen', message: `its Jobs cannot be listed: ${errorMessage(error)}${hint}` };
    }
  }

  /** @returns why it cannot be made, if trying again would not help. */
  async make(schedule: SnapshotSchedule, object: NewObject<Job>): Promise<JobsWorld['jobRefused']> {
    const { api, events } = this.#context;
    const { name } = object.metadata;
    try {
      await api.create(jobs, object);
      events.record(schedule, { type: 'Normal', reason: 'JobMade', message: `Job ${name} is made for its snapshot` });
      return undefined;
    } catch (error) {
      switch (errorCode(error)) {
        case 'AlreadyExists':
          return (await this.#isOwn(schedule, object))
            ? undefined
            : { name, message: `there is a Job ${name} that this schedule has not made` };
        case 'Invalid':
          return { name, message: `it could not be made: ${errorMessage(error)}` };
        default:
          throw error;
      }
    }
  }

  async #isOwn(schedule: SnapshotSchedule, { metadata }: NewObject<Job>): Promise<boolean> {
    const found = await this.#context.api.get(jobs, keyOf({ metadata }));
    return found?.metadata.labels?.[scheduleUidLabel] === schedule.metadata.uid && !isDeleting(found);
  }

  async end(schedule: SnapshotSchedule, { job, why, isOver }: JobRemoval): Promise<void> {
    const { name, uid } = job.metadata;
    await this.#context.api.delete(jobs, keyOf(job), { uid });
    if (isOver) return;
    const message = `Job ${name} is ended: ${why}`;
    this.#context.events.record(schedule, { type: 'Warning', reason: 'JobEnded', message });
  }
}
