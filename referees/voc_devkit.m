% Average precision by the rule of the PASCAL VOC devkit, from its description: VOC 2007's 11 points
% and the area of VOC 2010 and later, for many small cases in one run.
%
%   octave-cli --quiet --eval "voc_devkit('FOLDER')"
%
% FOLDER/cases.txt holds lines of numbers, one-based boxes with inclusive corners:
%   1 case image xmin ymin xmax ymax difficult    an object of the class
%   2 case image xmin ymin xmax ymax score        a detection, in the order of the results file
%   0 case 0 0 0 0 0 0                            that the case exists, though it may be empty
% FOLDER/answers.txt gets a line a case: case, 11 points, area, number of detections, then the
% recall after each detection, then the precision, 17 digits each.
function voc_devkit(folder)
  rows = dlmread(fullfile(folder, 'cases.txt'));
  out = fopen(fullfile(folder, 'answers.txt'), 'w');
  for number = rows(rows(:, 1) == 0, 2)'
    mine = rows(rows(:, 2) == number, :);
    [recall, precision] = curve(mine(mine(:, 1) == 1, 3:8), mine(mine(:, 1) == 2, 3:8));
    fprintf(out, '%d %.17g %.17g %d', number, eleven_points(recall, precision), ...
            area(recall, precision), numel(recall));
    fprintf(out, ' %.17g', recall, precision);
    fprintf(out, '\n');
  end
  fclose(out);
end

% Go down the detections; each looks for the object that it overlaps most, the first of equals.
function [recall, precision] = curve(objects, found)
  [~, order] = sort(-found(:, 6));  % stable: equals stay in the order of the file
  found = found(order, :);
  taken = false(size(objects, 1), 1);
  right = zeros(size(found, 1), 1);
  wrong = zeros(size(found, 1), 1);
  for d = 1:size(found, 1)
    best = -inf;
    chosen = 0;
    for j = find(objects(:, 1) == found(d, 1))'
      overlap = iou(found(d, 2:5), objects(j, 2:5));
      if overlap > best
        best = overlap;
        chosen = j;
      end
    end
    if chosen > 0 && best >= 0.5
      if ~objects(chosen, 6)
        if taken(chosen)
          wrong(d) = 1;
        else
          right(d) = 1;
          taken(chosen) = true;
        end
      end
    else
      wrong(d) = 1;
    end
  end
  right = cumsum(right);
  wrong = cumsum(wrong);
  recall = right / sum(~objects(:, 6));
  precision = right ./ (right + wrong);  % not a number while all so far lie on difficult objects
end

function share = iou(a, b)
  wide = min(a(3), b(3)) - max(a(1), b(1)) + 1;
  high = min(a(4), b(4)) - max(a(2), b(2)) + 1;
  share = -inf;  % boxes that do not meet are never the best
  if wide > 0 && high > 0
    both = wide * high;
    share = both / ((a(3) - a(1) + 1) * (a(4) - a(2) + 1) ...
                    + (b(3) - b(1) + 1) * (b(4) - b(2) + 1) - both);
  end
end

% VOC 2007: the mean over the levels of the best precision from there on.
function ap = eleven_points(recall, precision)
  ap = 0;
  for level = 0:0.1:1
    best = max(precision(recall >= level));
    if isempty(best)
      best = 0;
    end
    ap = ap + best / 11;
  end
end

% VOC 2010 and later: the area under the precision made to fall.
function ap = area(recall, precision)
  recall = [0; recall; 1];
  precision = [0; precision; 0];
  for i = numel(precision)-1:-1:1
    precision(i) = max(precision(i), precision(i + 1));
  end
  steps = find(diff(recall) ~= 0);
  ap = sum((recall(steps + 1) - recall(steps)) .* precision(steps + 1));
end
